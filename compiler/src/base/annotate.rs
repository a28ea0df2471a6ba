//! Violations shown in the text they are found in: each under its line, with a mark.

use crate::error::Error;

/// The lines, with the reason of every fault (the number of its line, and what is wrong) under its
/// line.
pub fn annotate(lines: &[String], faults: &[(usize, &str)]) -> String {
    annotated(lines, faults).0.join("\n") + "\n"
}

/// The internal error of the first fault: it shows so many lines before it, and says how many more
/// there are.
pub fn defect(lines: &[String], faults: &[(usize, &str)], before: usize) -> Option<Error> {
    let &(_, reason) = faults.first()?;
    let (lines, guilty) = annotated(lines, &faults[..1]);
    let excerpt = lines[guilty.saturating_sub(before)..(guilty + 4).min(lines.len())].join("\n");
    let more = match faults.len() {
        1 => String::new(),
        n => format!("; {} more of this kind", n - 1),
    };
    Some(Error::bug(format!("{reason}{more}\n{excerpt}")))
}

/// The lines with the reasons, and the line of the last of them.
fn annotated(lines: &[String], faults: &[(usize, &str)]) -> (Vec<String>, usize) {
    let (mut all, mut guilty) = (Vec::new(), 0);
    for (number, line) in lines.iter().enumerate() {
        all.push(line.clone());
        let indent = line.len() - line.trim_start().len();
        for (_, reason) in faults.iter().filter(|f| f.0 == number) {
            guilty = all.len();
            all.push(format!("{}^ {reason}", " ".repeat(indent)));
        }
    }
    (all, guilty)
}
