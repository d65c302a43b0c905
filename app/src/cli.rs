//! tmp
use clap::{Parser, Subcommand};
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    c: C,
}
#[derive(Subcommand)]
enum C {
    Guest(crate::guest::Options),
}
/// main
pub fn main() -> std::process::ExitCode {
    let C::Guest(o) = Cli::parse().c;
    match crate::guest::run(&o, &mut std::io::stdout()) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            std::process::ExitCode::from(e.exit_status())
        }
    }
}
