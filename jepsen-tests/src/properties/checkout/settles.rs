//! Every checkout is decided in time after the last fault, and every event that says what nobody else does was acted
//! on.

use super::{Books, Look};

pub(super) fn check(books: &Books, look: &mut Look) {
    let settling = &books.settling;
    let in_time = settling.took_ms.is_some_and(|took| took <= settling.took_ms_max);
    look.at(in_time, &[], || match settling.took_ms {
        Some(took) => format!(
            "it took {took} ms until no checkout was open, and {} are allowed",
            settling.took_ms_max
        ),
        None => format!(
            "checkouts were open {} ms after the last fault",
            settling.took_ms_max
        ),
    });
    for left in &settling.left {
        look.at(false, &[], || format!("still there: {left}"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bought, red};

    #[test]
    fn late_never_and_left_over_are_noticed() {
        for (took_ms, left) in [
            (Some(1_001), vec![]),
            (None, vec![]),
            (Some(1), vec!["c_1".to_owned()]),
        ] {
            let mut books = bought();
            (books.settling.took_ms, books.settling.left) = (took_ms, left);
            assert_eq!(red(&books), ["checkouts-settle"]);
        }
    }
}
