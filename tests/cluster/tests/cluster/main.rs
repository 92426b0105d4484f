//! A cluster of real daemons on machines of their own.

mod commands;
mod examples;
mod faults;
mod leaving;
mod machinery;
mod programs;
mod strangers;
mod work;
