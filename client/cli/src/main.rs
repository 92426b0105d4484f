//! The program `manyhands`: see the library `manyhands_cli`.

fn main() -> std::process::ExitCode {
    manyhands_cli::main()
}
