//! What leaves the program other than the screen: text and JSON reports.
