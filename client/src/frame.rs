//! Frames of commands as bytes.
//!
//! A command is encoded once, by the task that calls, into the very bytes it has inside a
//! `SubmitRequest`; a frame is then its id and those bytes one after the other. So the encoding is
//! spread over the callers instead of burdening the one task that writes to the socket, a retry
//! repeats the same bytes (hence the same key) without copying, and what goes over the wire is an
//! ordinary `SubmitRequest`.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use proto::v1::{Command, SubmitRequest, SubmitResponse, Trace};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use crate::Error;

/// Field number of `SubmitRequest.frame_id`.
const FRAME_ID: u32 = 1;
/// Field number of `SubmitRequest.commands`.
const COMMANDS: u32 = 2;
/// Field number of `SubmitRequest.traces`.
const TRACES: u32 = 3;

/// Largest command, in bytes: the largest document body (16 KiB) and ample room for the rest. One
/// that is larger is refused here, because it would be refused together with its whole frame there.
pub(crate) const COMMAND_BYTES_MAX: usize = 20 * 1024;

/// One command as it stands in a frame.
pub(crate) fn encode_command(command: &Command) -> Result<Bytes, Error> {
    let mut body = BytesMut::new();
    append_command(command, &mut body)?;
    Ok(body.freeze())
}

/// Refuses a command that is too large for any frame.
pub(crate) fn check_command(command: &Command) -> Result<usize, Error> {
    let bytes = command.encoded_len();
    if bytes > COMMAND_BYTES_MAX {
        return Err(Error::invalid(format!(
            "a command of {bytes} bytes; at most {COMMAND_BYTES_MAX} fit: shorten its ids or its name"
        )));
    }
    Ok(bytes)
}

/// Appends one command to the body of a frame.
pub(crate) fn append_command(command: &Command, body: &mut BytesMut) -> Result<(), Error> {
    let bytes = check_command(command)?;
    body.reserve(bytes + 2 + prost::length_delimiter_len(bytes));
    prost::encoding::message::encode(COMMANDS, command, body);
    Ok(())
}

/// A frame about to leave.
#[derive(Debug)]
pub(crate) struct Frame {
    /// Matches the answer.
    pub(crate) frame_id: u64,
    /// Commands in order, each item one or more of them.
    pub(crate) bodies: Vec<Bytes>,
    /// Which of the commands belong to a trace; nearly always none.
    pub(crate) traces: Vec<Trace>,
}

impl Frame {
    fn write(&self, buffer: &mut impl BufMut) {
        prost::encoding::uint64::encode(FRAME_ID, &self.frame_id, buffer);
        for body in &self.bodies {
            buffer.put_slice(body);
        }
        prost::encoding::message::encode_repeated(TRACES, &self.traces, buffer);
    }

    fn len(&self) -> usize {
        prost::encoding::uint64::encoded_len(FRAME_ID, &self.frame_id)
            + self.bodies.iter().map(Bytes::len).sum::<usize>()
            + prost::encoding::message::encoded_len_repeated(TRACES, &self.traces)
    }
}

/// Writes [`Frame`]s where a `SubmitRequest` is due, reads `SubmitResponse`s.
#[derive(Debug, Default)]
pub(crate) struct FrameCodec;

impl Codec for FrameCodec {
    type Encode = Frame;
    type Decode = SubmitResponse;
    type Encoder = FrameCodec;
    type Decoder = FrameCodec;

    fn encoder(&mut self) -> FrameCodec {
        FrameCodec
    }

    fn decoder(&mut self) -> FrameCodec {
        FrameCodec
    }
}

impl Encoder for FrameCodec {
    type Item = Frame;
    type Error = Status;

    fn encode(&mut self, frame: Frame, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(frame.len());
        frame.write(buffer);
        Ok(())
    }
}

impl Decoder for FrameCodec {
    type Item = SubmitResponse;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<SubmitResponse>, Status> {
        SubmitResponse::decode(buffer)
            .map(Some)
            .map_err(|error| Status::internal(format!("an answer that is no SubmitResponse: {error}")))
    }
}

/// The path of `Inventory.Submit`.
pub(crate) const SUBMIT: &str = "/holdfast.v1.Inventory/Submit";

// The generated client would send these; naming the type here breaks the build if it is renamed.
const _: fn(&SubmitRequest) -> u64 = |request| request.frame_id;

#[cfg(test)]
mod tests {
    use proto::v1::{Take, command::Body};

    use super::*;

    fn command(key: &str) -> Command {
        Command {
            key: key.to_string(),
            principal: String::new(),
            not_after_ms: 7,
            body: Some(Body::Claim(Take {
                sale_id: "hot".into(),
                user: "u".into(),
                quantity: 2,
            })),
        }
    }

    #[test]
    fn a_frame_is_an_ordinary_submit_request() {
        let many = {
            let mut body = BytesMut::new();
            append_command(&command("b"), &mut body).unwrap();
            append_command(&command("c"), &mut body).unwrap();
            body.freeze()
        };
        let traces = vec![Trace {
            command: 1,
            traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into(),
        }];
        let frame = Frame {
            frame_id: 300,
            bodies: vec![encode_command(&command("a")).unwrap(), many],
            traces: traces.clone(),
        };
        let mut bytes = Vec::new();
        frame.write(&mut bytes);
        assert_eq!(bytes.len(), frame.len());
        let expected = SubmitRequest {
            frame_id: 300,
            commands: vec![command("a"), command("b"), command("c")],
            traces,
        };
        assert_eq!(SubmitRequest::decode(bytes.as_slice()).unwrap(), expected);
        assert_eq!(bytes, expected.encode_to_vec());
    }

    #[test]
    fn an_oversized_command_is_refused_before_it_can_spoil_a_frame() {
        let error = encode_command(&command(&"k".repeat(COMMAND_BYTES_MAX))).unwrap_err();
        assert!(matches!(error, Error::Rejected(rejected) if rejected.reason == crate::Reason::Invalid));
    }
}
