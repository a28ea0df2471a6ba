//! The order in which results are asked for, one after the other.
//!
//! A tile of a window that slides over rows is listed tap by tap, so that all its sums are in
//! registers at once, and what it loads for all of them. Listed by results, each sum begins and ends
//! before the next, and of what neighbours share the last few columns are kept.

/// The order of statements: `after[i]` are those that must come after statement `i`. Each result, in
/// order, comes after all that it needs and nothing else that did not come before: stores, and what
/// nothing comes after. `None` where statements wait for each other.
pub fn by_results(after: &[Vec<(usize, u32)>], is_store: impl Fn(usize) -> bool) -> Option<Vec<usize>> {
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); after.len()];
    // What was listed last is looked at first: a sum so far before the next product's factors.
    for (i, list) in after.iter().enumerate().rev() {
        list.iter().for_each(|next| before[next.0].push(i));
    }
    let mut order = Vec::with_capacity(after.len());
    let (mut begun, mut listed) = (vec![false; after.len()], vec![false; after.len()]);
    for result in (0..after.len()).filter(|&i| is_store(i) || after[i].is_empty()) {
        if std::mem::replace(&mut begun[result], true) {
            continue;
        }
        // Statements, and how many of those before each have been looked at.
        let mut open = vec![(result, 0)];
        while let Some((i, looked)) = open.last_mut() {
            let (i, next) = (*i, before[*i].get(*looked).copied());
            *looked += 1;
            match next {
                Some(earlier) if listed[earlier] => {}
                Some(earlier) if std::mem::replace(&mut begun[earlier], true) => return None,
                Some(earlier) => open.push((earlier, 0)),
                None => {
                    listed[i] = true;
                    order.push(i);
                    open.pop();
                }
            }
        }
    }
    (order.len() == after.len()).then_some(order)
}

#[cfg(test)]
mod tests {
    use super::by_results;

    /// Statements 0 and 1 are what result 4 needs, 1 and 2 what result 3 needs.
    #[test]
    fn a_result_comes_as_soon_as_what_it_needs() {
        let after = [vec![(4, 0)], vec![(3, 0), (4, 0)], vec![(3, 0)], vec![], vec![]];
        assert_eq!(by_results(&after, |_| false), Some(vec![2, 1, 3, 0, 4]));
    }

    #[test]
    fn statements_that_wait_for_each_other_have_no_order() {
        assert_eq!(by_results(&[vec![(1, 0)], vec![(0, 0), (2, 0)], vec![]], |_| false), None);
    }
}
