//! Snapshots of whole screens, with their styles.
