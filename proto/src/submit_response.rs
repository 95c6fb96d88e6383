//! The answer to a frame: the one message that is not generated.
//!
//! A leader answers hundreds of thousands of claims a second. As messages, each outcome would be built,
//! measured at every level of nesting and then copied; written as bytes at once, that is a tenth of the
//! work. On the wire nothing differs from what `inventory.proto` says, and readers get messages.

use bytes::{Buf, BufMut, Bytes};
use prost::{
    DecodeError, Message,
    encoding::{DecodeContext, WireType, message, skip_field, uint64},
};

use crate::v1::{Outcome, Position, Run};

/// `holdfast.v1.SubmitResponse`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubmitResponse {
    /// The frame it answers.
    pub frame_id: u64,
    /// One outcome a command, in order.
    pub outcomes: Vec<Outcome>,
    /// Outcomes in their wire form, tag and length before each, that go out after `outcomes`; empty in
    /// what was read.
    pub outcomes_encoded: Bytes,
    /// What the answers reflect.
    pub position: Option<Position>,
    /// Where the commands stand in the log, from the first on.
    pub runs: Vec<Run>,
}

const FRAME_ID: u32 = 1;
const OUTCOMES: u32 = 2;
const POSITION: u32 = 3;
const RUNS: u32 = 4;

impl Message for SubmitResponse {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        if self.frame_id != 0 {
            uint64::encode(FRAME_ID, &self.frame_id, buf);
        }
        message::encode_repeated(OUTCOMES, &self.outcomes, buf);
        buf.put_slice(&self.outcomes_encoded);
        if let Some(position) = &self.position {
            message::encode(POSITION, position, buf);
        }
        message::encode_repeated(RUNS, &self.runs, buf);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            FRAME_ID => uint64::merge(wire_type, &mut self.frame_id, buf, ctx),
            OUTCOMES => message::merge_repeated(wire_type, &mut self.outcomes, buf, ctx),
            POSITION => {
                let position = self.position.get_or_insert_default();
                message::merge(wire_type, position, buf, ctx)
            }
            RUNS => message::merge_repeated(wire_type, &mut self.runs, buf, ctx),
            _ => skip_field(wire_type, tag, buf, ctx),
        }
    }

    fn encoded_len(&self) -> usize {
        let frame_id = match self.frame_id {
            0 => 0,
            frame_id => uint64::encoded_len(FRAME_ID, &frame_id),
        };
        let position = |position| message::encoded_len(POSITION, position);
        frame_id
            + message::encoded_len_repeated(OUTCOMES, &self.outcomes)
            + self.outcomes_encoded.len()
            + self.position.as_ref().map_or(0, position)
            + message::encoded_len_repeated(RUNS, &self.runs)
    }

    fn clear(&mut self) {
        *self = SubmitResponse::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{Receipt, outcome::Kind};

    #[test]
    fn outcomes_are_read_in_order_in_whichever_form_they_were_written() {
        let outcome = |log_index| Outcome {
            kind: Some(Kind::Done(Receipt {
                log_index,
                ..Receipt::default()
            })),
        };
        let mut encoded = Vec::new();
        message::encode(OUTCOMES, &outcome(2), &mut encoded);
        message::encode(OUTCOMES, &outcome(3), &mut encoded);
        let written = SubmitResponse {
            frame_id: 77,
            outcomes: vec![outcome(1)],
            outcomes_encoded: encoded.into(),
            position: Some(Position {
                applied_index: 3,
                ..Position::default()
            }),
            runs: vec![Run {
                log_index: 3,
                commands: 3,
                ..Run::default()
            }],
        };
        let bytes = written.encode_to_vec();
        assert_eq!(bytes.len(), written.encoded_len());
        let read = SubmitResponse::decode(&*bytes).expect("a message");
        assert_eq!(read.frame_id, 77);
        assert_eq!(read.outcomes, [outcome(1), outcome(2), outcome(3)]);
        assert_eq!((read.position, read.runs), (written.position, written.runs));
        assert!(read.outcomes_encoded.is_empty());
        assert_eq!(SubmitResponse::default().encoded_len(), 0);
    }
}
