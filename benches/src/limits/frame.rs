//! How long our frames are: those that a client sends, and the answers to them.

use prost::Message;
use proto::v1::{
    Claim, ClaimStatus, Command, Grant, Granted, Outcome, Position, Run, SubmitRequest, SubmitResponse, Take,
    command::Body, outcome::Kind,
};
use raft_store::limits::FRAME_COMMANDS_MAX;

use crate::{names::Names, report::id};

/// Claims in a full frame.
pub const FULL_CLAIMS: usize = FRAME_COMMANDS_MAX;

/// Log index, log time and rank of a cluster that has worked for a while: numbers take room as they grow.
const SOME_INDEX: u64 = 1_000_000;
const SOME_LOG_TIME_MS: u64 = 600_000;
const SOME_DEADLINE_MS: u64 = 24 * 3_600_000;
const SOME_RANK: u32 = 500_000;

/// Length of a claim's id.
const CLAIM_ID_BYTES: usize = 41;

/// Bytes of a frame and of the answer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameBytes {
    /// Of the frame.
    pub request: usize,
    /// Of the answer, every claim granted.
    pub answer: usize,
}

impl FrameBytes {
    /// Those of a frame of so many claims.
    pub fn of(claims: usize) -> FrameBytes {
        let claim = |(user, key): (String, String)| Command {
            key,
            not_after_ms: SOME_LOG_TIME_MS,
            body: Some(Body::Claim(Take {
                sale_id: id::CLAIMS_BULK.to_owned(),
                user,
                quantity: 1,
            })),
            ..Command::default()
        };
        let request = SubmitRequest {
            frame_id: SOME_INDEX,
            commands: Names::new(0).of_caller(0).take(claims).map(claim).collect(),
            traces: Vec::new(),
        };
        let granted = Outcome {
            kind: Some(Kind::Claim(Granted {
                grant: Grant::Granted.into(),
                claim: Some(Claim {
                    claim_id: "c".repeat(CLAIM_ID_BYTES),
                    status: ClaimStatus::Held.into(),
                    quantity: 1,
                    rank: SOME_RANK,
                    deadline_ms: SOME_DEADLINE_MS,
                    fencing_token: SOME_INDEX,
                    ..Claim::default()
                }),
            })),
        };
        let answer = SubmitResponse {
            frame_id: SOME_INDEX,
            outcomes: vec![granted; claims],
            position: Some(Position {
                applied_index: SOME_INDEX,
                term: 1,
                log_time_ms: SOME_LOG_TIME_MS,
                wall_time_ms: u64::from(u32::MAX) * 1_000,
                ..Position::default()
            }),
            runs: vec![Run {
                log_index: SOME_INDEX,
                commands: claims as u32,
                log_time_ms: SOME_LOG_TIME_MS,
                ..Run::default()
            }],
            ..SubmitResponse::default()
        };
        FrameBytes {
            request: request.encoded_len(),
            answer: answer.encoded_len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_as_long_as_what_is_in_them() {
        let (one, full) = (FrameBytes::of(1), FrameBytes::of(FULL_CLAIMS));
        // A user of 18 bytes, a key of 32 and a sale of 11 are sent; an id of 41 comes back.
        assert!((70..120).contains(&one.request), "{one:?}");
        assert!((80..160).contains(&one.answer), "{one:?}");
        let alone = FULL_CLAIMS * one.request;
        assert!(full.request < alone && full.request > alone * 3 / 4, "{full:?}");
    }
}
