//! A final answer to a key is the answer to that key for ever: the same status, the same order, the same problem.
//!
//! What is not the last word (still at it, not now, come back) may be followed by anything.

use std::collections::BTreeMap;

use super::{Answer, Asked, Books, Look};

pub(super) fn check(books: &Books, look: &mut Look) {
    let mut first: BTreeMap<(&str, Asked, &str), &Answer> = BTreeMap::new();
    for answer in books.answers.iter().filter(|answer| answer.is_final) {
        let key = (answer.user.as_str(), answer.asked, answer.key.as_str());
        let first = *first.entry(key).or_insert(answer);
        let said = |answer: &Answer| {
            let order = answer.order_id.clone();
            (answer.status, order, answer.problem.clone())
        };
        look.at(said(first) == said(answer), &[], || {
            format!(
                "{} was told {:?} for key {}, and then {:?}",
                answer.user,
                said(first),
                answer.key,
                said(answer)
            )
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bought, red};

    #[test]
    fn another_answer_to_a_key_is_noticed_unless_one_of_them_was_not_final() {
        let mut books = bought();
        let mut other = books.answers[0].clone();
        (other.status, other.order_id) = (402, None);
        other.problem = Some("declined".into());
        books.answers.push(other);
        assert_eq!(red(&books), ["same-key-same-answer"]);
        books.answers[1].is_final = false;
        assert!(red(&books).is_empty());
        books.answers[1].is_final = true;
        books.answers[1].key = "k2".into();
        assert!(red(&books).is_empty());
    }
}
