//! Near names, for the advice in errors about unknown ones.

/// The up to five known names nearest to an unknown one by edit distance, nearest first.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let lower = name.to_lowercase();
    let mut ranked: Vec<(usize, &str)> =
        known.into_iter().map(|k| (distance(&lower, &k.to_lowercase()), k)).collect();
    ranked.sort_by_key(|r| r.0);
    ranked.into_iter().take(5).map(|r| r.1).collect()
}

/// Insertions, deletions and replacements that turn one text into another (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    #[test]
    fn nearest_first() {
        assert_eq!(super::distance("kitten", "sitting"), 3);
        assert_eq!(super::nearest("Relo", ["Conv", "Relu", "Elu"])[0], "Relu");
    }
}
