//! The executors. Under construction.
