//! `lmc cpus`: the processors that `--cpu` names; `docs/processors.md` is its text as Markdown.

use super::report::{Report, table};
use crate::error::Result;
use crate::target::{Arch, Target, cpu_names, resolve};
use clap::Args;
use serde_json::json;
use std::fmt::Write;
use std::process::ExitCode;

/// Options of `lmc cpus`.
#[derive(Args)]
pub(super) struct CpusArgs {
    /// Print the page docs/processors.md.
    #[arg(long)]
    markdown: bool,
}

/// What `--target` calls the architectures.
const ARCHS: [(Arch, &str); 2] = [(Arch::X86_64, "x86_64"), (Arch::Aarch64, "aarch64")];

pub(super) fn run(args: &CpusArgs, report: &Report) -> Result<ExitCode> {
    let mut all = Vec::new();
    for (arch, target) in ARCHS {
        let names = cpu_names(arch).map(|cpu| Ok((target, resolve(target, cpu)?)));
        all.extend(names.collect::<Result<Vec<(&str, Target)>>>()?);
    }
    let list = all.iter().map(|(target, t)| {
        let features: Vec<&str> = names(t).collect();
        json!({ "target": target, "name": t.cpu, "features": features, "vector_bits": 8 * t.vector_bytes,
                "l1_bytes": t.l1, "l2_bytes": t.l2 })
    });
    let list: Vec<_> = list.collect();
    let text = if args.markdown { page(&all) } else { table(&lines(&all)) };
    report.result("processors", &text, json!({ "processors": list }));
    Ok(ExitCode::SUCCESS)
}

fn names(target: &Target) -> impl Iterator<Item = &'static str> {
    target.features.iter().map(|f| f.name())
}

fn cells(t: &Target) -> [String; 5] {
    let features: Vec<&str> = names(t).collect();
    let size = |bytes: usize| format!("{}", bytes >> 10);
    [t.cpu.clone(), (8 * t.vector_bytes).to_string(), features.join(", "), size(t.l1), size(t.l2)]
}

const HEAD: [&str; 5] = ["cpu", "vector bits", "features", "L1 KB", "L2 KB"];

fn lines(all: &[(&str, Target)]) -> Vec<Vec<String>> {
    let head = std::iter::once("target").chain(HEAD).map(str::to_string).collect();
    let rows = all.iter().map(|(target, t)| [vec![target.to_string()], cells(t).to_vec()].concat());
    std::iter::once(head).chain(rows).collect()
}

fn page(all: &[(&str, Target)]) -> String {
    let mut text = String::from(
        "# Processors\n\n\
         What `lmc cpus` prints: the names that `--cpu` takes, and what is known of each. `native` is the\n\
         machine that lmc runs on. `NAME,vector=BITS` keeps to narrower vectors. `generic` runs on every\n\
         processor of the architecture.\n",
    );
    for part in all.chunk_by(|a, b| a.0 == b.0) {
        let rule = vec!["---"; HEAD.len()].join("|");
        // Writing to a string does not fail.
        let _ = write!(text, "\n## {}\n\n| {} |\n|{rule}|\n", part[0].0, HEAD.join(" | "));
        for (_, t) in part {
            let _ = writeln!(text, "| {} |", cells(t).join(" | "));
        }
    }
    text
}
