//! The program itself, as scheduler, worker and client, on this machine.

mod client;
mod commands;
mod machine;
