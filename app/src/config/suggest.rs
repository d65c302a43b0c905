//! What somebody meant who wrote something else.

/// The known name nearest to a written one, if it is near enough to be meant.
pub fn suggestion<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    let near = 1 + written.chars().count() / 4;
    known
        .iter()
        .map(|name| (distance(written, name), *name))
        .filter(|&(d, _)| d <= near)
        .min()
        .map(|(_, name)| name)
}

/// Letters to insert, remove or change to get from one to the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &cb) in b.iter().enumerate() {
            let change = diagonal + usize::from(ca != cb);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
    }

    #[test]
    fn the_nearest_is_meant_unless_it_is_far() {
        let known = ["theme", "mouse", "keys"];
        assert_eq!(suggestion("tehme", &known), Some("theme"));
        assert_eq!(suggestion("key", &known), Some("keys"));
        assert_eq!(suggestion("colour", &known), None);
    }
}
