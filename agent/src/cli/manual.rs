//! Manual pages and shell completions, made from the same definitions as `--help`.

use std::io::{self, Write};

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::Shell;

use super::{Cli, EXIT_FAILURE, EXIT_OK, EXIT_USAGE};
use crate::output::complain;

#[derive(Debug, Args)]
pub(super) struct ManualArgs {
    /// `man`, or a shell for its completions.
    #[arg(value_enum)]
    kind: Kind,
    /// The command that the manual page is about; without one, the program.
    command: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Man,
    Bash,
    Zsh,
    Fish,
}

pub(super) fn manual(args: &ManualArgs) -> u8 {
    let mut cli = Cli::command();
    cli.build();
    let mut text = Vec::new();
    let shell = match args.kind {
        Kind::Man => {
            let command = match &args.command {
                None => Some(&cli),
                Some(name) => cli.find_subcommand(name),
            };
            let Some(command) = command else {
                complain("Error: no such command");
                return EXIT_USAGE;
            };
            if let Err(error) = clap_mangen::Man::new(command.clone()).render(&mut text) {
                complain(format_args!("Error: {error}"));
                return EXIT_FAILURE;
            }
            None
        }
        Kind::Bash => Some(Shell::Bash),
        Kind::Zsh => Some(Shell::Zsh),
        Kind::Fish => Some(Shell::Fish),
    };
    if let Some(shell) = shell {
        clap_complete::generate(shell, &mut cli, "tollgate-agent", &mut text);
    }
    // A reader that went away is no failure.
    let _ = io::stdout().lock().write_all(&text);
    EXIT_OK
}
