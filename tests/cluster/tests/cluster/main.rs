//! A cluster of real daemons on machines of their own.

mod commands;
mod examples;
mod faults;
mod foreign;
mod leaving;
mod machinery;
mod programs;
mod strangers;
mod work;
