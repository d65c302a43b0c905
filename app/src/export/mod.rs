//! What leaves the program other than the screen: text and JSON reports.
//!
//! Both say the same of a session: everything since its start, from [`crate::model::totals`].

pub mod json;
pub mod text;

#[cfg(test)]
mod testing;
