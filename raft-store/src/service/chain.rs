//! Chains in a frame: what follows what, and what is not reached because something before it is refused here.

use proto::v1::{self, command::Body};

use super::outcome;
use crate::limits::CHAIN_COMMANDS_MAX;

/// The commands of one frame, gone through in order.
#[derive(Default)]
pub struct Chain {
    /// Commands of the chain so far.
    commands: usize,
    /// Whether the last of them may yet have its effect.
    goes_on: bool,
}

impl Chain {
    /// The next command by itself, and whether it follows the one before it.
    ///
    /// # Errors
    /// It is refused for where it stands, and this is what it is told.
    pub fn next(&mut self, command: v1::Command) -> Result<(v1::Command, bool), Box<v1::Outcome>> {
        let Some(Body::Then(then)) = command.body else {
            self.commands = 1;
            return Ok((command, false));
        };
        let malformed = |why: String| Err(Box::new(outcome::malformed(why)));
        if self.commands == 0 {
            return malformed("then follows a command, and this is the first of its frame".to_owned());
        }
        self.commands += 1;
        if !self.goes_on {
            return Err(Box::new(outcome::not_reached()));
        }
        if self.commands > CHAIN_COMMANDS_MAX {
            return malformed(format!(
                "the chain has more than {CHAIN_COMMANDS_MAX} commands; make two of it"
            ));
        }
        Ok((*then, true))
    }

    /// Whether that command went on to the log.
    pub fn went_on(&mut self, goes_on: bool) {
        self.goes_on = goes_on;
    }
}

#[cfg(test)]
mod tests {
    use proto::v1::{Reason, outcome::Kind};

    use super::*;

    fn plain() -> v1::Command {
        v1::Command::default()
    }

    fn then() -> v1::Command {
        v1::Command {
            body: Some(Body::Then(Box::default())),
            ..plain()
        }
    }

    /// What becomes of each: does it follow, or why it is refused. Those whose place is in `refused` are so for something else.
    fn walk(commands: Vec<v1::Command>, refused: &[usize]) -> Vec<Result<bool, Reason>> {
        let mut chain = Chain::default();
        let walked = commands.into_iter().enumerate().map(|(place, command)| {
            let next = chain.next(command);
            chain.went_on(next.is_ok() && !refused.contains(&place));
            next.map(|(_, follows)| follows)
                .map_err(|outcome| match outcome.kind {
                    Some(Kind::Rejected(rejected)) => rejected.reason(),
                    kind => panic!("{kind:?}"),
                })
        });
        walked.collect()
    }

    #[test]
    fn a_chain_has_no_gaps() {
        let frame = vec![plain(), then(), then(), then(), plain(), then()];
        assert_eq!(
            walk(frame.clone(), &[]),
            [Ok(false), Ok(true), Ok(true), Ok(true), Ok(false), Ok(true)]
        );
        let ends = Err(Reason::NotReached);
        assert_eq!(
            walk(frame.clone(), &[1]),
            [Ok(false), Ok(true), ends, ends, Ok(false), Ok(true)]
        );
        assert_eq!(
            walk(frame, &[0, 4]),
            [Ok(false), ends, ends, ends, Ok(false), ends]
        );
    }

    #[test]
    fn nothing_is_followed_where_nothing_stands() {
        let ends = Err(Reason::NotReached);
        assert_eq!(
            walk(vec![then(), then()], &[]),
            [Err(Reason::Invalid), Err(Reason::Invalid)]
        );
        assert_eq!(walk(vec![plain(), then()], &[0]), [Ok(false), ends]);
    }

    #[test]
    fn a_chain_that_is_too_long_ends_there() {
        let mut frame = vec![plain()];
        frame.resize_with(CHAIN_COMMANDS_MAX + 2, then);
        let walked = walk(frame, &[]);
        let (fits, beyond) = walked.split_at(CHAIN_COMMANDS_MAX);
        assert!(fits.iter().all(Result::is_ok));
        assert_eq!(beyond, [Err(Reason::Invalid), Err(Reason::NotReached)]);
    }
}
