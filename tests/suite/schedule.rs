//! Schedules: what is chosen for definitions on several processors; texts read, printed, verified.

use crate::golden::check_folder;
use lmc::definition::{Operand, parse_definition, verify_definition};
use lmc::schedule::choose::choose;
use lmc::schedule::linear::{Layout, Linear};
use lmc::schedule::{Schedule, explain, parse, verify};
use lmc::target::resolve;

/// One of each width of vectors; without and with products of bytes, and of rows by columns.
const PROCESSORS: [(&str, &str); 6] = [
    ("x86_64", "x86-64-v4"),
    ("x86_64", "x86-64-v3"),
    ("x86_64", "x86-64"),
    ("aarch64", "cortex-a53"),
    ("aarch64", "neoverse-n1"),
    ("aarch64", "neoverse-n2"),
];

/// The linear form of a definition. Lines before it say what is known of its values: `constant v1, v2`,
/// `layout v0 0, 2, 3, 1`, the dimensions in the order of memory, outermost first, and `kept 1000`, the groups of weights
/// that are not zero.
pub fn read_linear(text: &str) -> Linear {
    let start = text.find("define").expect("a definition");
    let definition = parse_definition(&text[start..]).expect("a definition that can be read");
    verify_definition(&definition).expect("a valid definition");
    let lines: Vec<&str> = text[..start].lines().collect();
    let is_constant = |o: &Operand| {
        let lists = lines.iter().filter_map(|l| l.strip_prefix("constant "));
        lists.flat_map(|l| l.split(", ")).any(|v| v == format!("v{}", o.value))
    };
    let layout = |o: &Operand| {
        let head = format!("layout v{} ", o.value);
        match lines.iter().find_map(|l| l.strip_prefix(&head)) {
            None => Layout::dense(&o.ty.shape),
            Some(order) => {
                let order = order.split(", ").map(|d| d.parse().expect("a dimension"));
                Layout::permuted(&o.ty.shape, &order.collect::<Vec<usize>>())
            }
        }
    };
    let constant: Vec<bool> = definition.operands.iter().map(is_constant).collect();
    let layouts: Vec<Layout> = definition.operands.iter().map(layout).collect();
    let mut linear = Linear::new(&definition, &layouts, &constant, &layout(&definition.output));
    let kept = lines.iter().find_map(|l| l.strip_prefix("kept "));
    linear.facts.kept = kept.map(|n| n.parse().expect("a number"));
    linear
}

/// The linear form and the schedules, processors of the same schedule together.
fn chosen(linear: &Linear) -> String {
    let mut groups: Vec<(Vec<&str>, Schedule)> = Vec::new();
    for (triple, cpu) in PROCESSORS {
        let schedule = choose(linear, &resolve(triple, cpu).expect("a known processor"));
        verify(&schedule, linear).expect("a valid schedule");
        let text = schedule.display(linear);
        assert_eq!(parse(&text, linear).expect("printed text is read back"), schedule);
        match groups.iter_mut().find(|g| g.1 == schedule) {
            Some(group) => group.0.push(cpu),
            None => groups.push((vec![cpu], schedule)),
        }
    }
    let mut text = linear.to_string();
    for (cpus, schedule) in groups {
        let order = if schedule.reorders(linear) { " (folds in another order)" } else { "" };
        text += &format!("// {}{order}\n{}", cpus.join(", "), schedule.display(linear));
    }
    text
}

fn read_and_verify(text: &str) -> String {
    let (definition, schedule) = match text.find("\nschedule ") {
        None => return chosen(&read_linear(text)),
        Some(at) => text.split_at(at + 1),
    };
    let linear = read_linear(definition);
    let schedule = match parse(schedule, &linear) {
        Ok(schedule) => schedule,
        Err(error) => return format!("{error}\n"),
    };
    assert_eq!(parse(&schedule.display(&linear), &linear).expect("printed text is read back"), schedule);
    let verdict = match verify(&schedule, &linear) {
        Ok(()) => "valid",
        Err(_) => "invalid",
    };
    format!("{}{verdict}\n", explain(&schedule, &linear))
}

#[test]
fn decisions() {
    check_folder("schedule", read_and_verify);
}
