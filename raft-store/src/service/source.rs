//! Who sent a frame: what he may ask for in it, and what the audit log keeps of it.
//!
//! What a call needs is checked before it gets here; a frame holds commands of every kind, and each needs a
//! role of its own.

use std::net::SocketAddr;

use proto::v1::{self, command::Body, outcome::Kind};
use security::{
    Caller,
    access::{COMMANDS, find},
    audit,
};
use spans::{FRAME_TRACES_MAX, TraceContext};
use tonic::Request;

use super::{
    access::{caller_of, traceparent},
    connections::Arrived,
    outcome,
};
use crate::batcher::frame::Answer;

/// Whose a call is.
#[derive(Clone)]
pub struct Source {
    /// Whose connection it came over: what waits counts for it.
    pub peer: SocketAddr,
    /// Who asks; `None` where nobody has to show anything.
    caller: Option<Caller>,
    traceparent: Option<String>,
}

impl Source {
    /// Who makes a call.
    pub fn of<T>(request: &Request<T>) -> Source {
        let arrived = request.extensions().get::<Arrived>();
        Source {
            peer: arrived
                .expect("every connection of ours says where it comes from")
                .peer,
            caller: caller_of(request),
            traceparent: traceparent(request).map(str::to_owned),
        }
    }

    /// Whether he may ask for this.
    ///
    /// # Errors
    /// He may not, and this is why.
    pub fn may(&self, command: &v1::Command) -> Result<(), String> {
        let (Some(caller), Some(body)) = (&self.caller, &command.body) else {
            return Ok(());
        };
        let call = call_of(body);
        let row = find(COMMANDS, call).expect("a test walks all commands");
        row.check(caller).map_err(|denied| denied.to_string())
    }
}

/// The name of a command in the table.
pub fn call_of(body: &Body) -> &'static str {
    match body {
        Body::Claim(_) => "command claim",
        Body::Decrement(_) => "command decrement",
        Body::Confirm(_) => "command confirm",
        Body::Release(_) => "command release",
        Body::Extend(_) => "command extend",
        Body::Cancel(_) => "command cancel",
        Body::CreateSale(_) => "command create_sale",
        Body::OpenSale(_) => "command open_sale",
        Body::PauseSale(_) => "command pause_sale",
        Body::CloseSale(_) => "command close_sale",
        Body::Restock(_) => "command restock",
        Body::Withdraw(_) => "command withdraw",
        Body::PutDocument(_) => "command put_document",
        Body::DeleteDocument(_) => "command delete_document",
        Body::LeaseDocument(_) => "command lease_document",
        Body::CheckDocument(_) => "command check_document",
        // Taken apart before anybody asks.
        Body::Then(_) => "command then",
    }
}

/// Which commands of a frame are part of which step.
pub struct Steps(Vec<(usize, TraceContext)>);

impl Steps {
    /// What a frame says of them. It is no reason to refuse a command when that makes no sense.
    pub fn of(traces: &[v1::Trace]) -> Steps {
        let step = |trace: &v1::Trace| {
            let step = TraceContext::parse(trace.traceparent.as_bytes())?;
            Some((trace.command as usize, step))
        };
        Steps(traces.iter().take(FRAME_TRACES_MAX).filter_map(step).collect())
    }

    /// What the command that stands here is part of.
    pub fn of_command(&self, place: usize) -> Option<TraceContext> {
        self.0.iter().find(|(at, _)| *at == place).map(|(_, step)| *step)
    }
}

/// One command that the audit log keeps.
pub struct Audit {
    place: usize,
    call: &'static str,
    trace_id: Option<String>,
    arguments: String,
}

impl Audit {
    /// What to keep of a command; `None` for what passes by the thousand. `step` is what it is part of, if the
    /// frame says so.
    pub fn of(place: usize, command: &v1::Command, step: Option<TraceContext>) -> Option<Audit> {
        let body = command.body.as_ref()?;
        let audited = matches!(
            body,
            Body::CreateSale(_)
                | Body::OpenSale(_)
                | Body::PauseSale(_)
                | Body::CloseSale(_)
                | Body::Restock(_)
                | Body::Withdraw(_)
        );
        audited.then(|| Audit {
            place,
            call: call_of(body),
            trace_id: step.map(|step| step.trace()),
            arguments: format!("{body:?} principal={:?} key={:?}", command.principal, command.key),
        })
    }
}

/// Those of one frame.
pub struct Audits {
    /// Who sent it.
    pub source: Source,
    /// In order.
    pub audits: Vec<Audit>,
}

impl Audits {
    /// Writes the line of the command that stood here, if it has one.
    pub fn tell(&self, place: usize, refused: Option<&v1::Outcome>, answer: Option<&Answer>) {
        let Some(audit) = self.audits.iter().find(|audit| audit.place == place) else {
            return;
        };
        let refusal = refused.and_then(|outcome| match &outcome.kind {
            Some(Kind::Rejected(rejected)) => Some(format!("refused: {}", rejected.message)),
            Some(Kind::Unsubmitted(refused)) => Some(format!("never proposed: {}", refused.message)),
            _ => None,
        });
        let outcome = refusal
            .or_else(|| answer.map(outcome::in_words))
            .unwrap_or_else(|| "refused".to_owned());
        let trace_id = match &audit.trace_id {
            Some(trace_id) => trace_id.clone(),
            None => audit::trace_id(self.source.traceparent.as_deref()),
        };
        audit::action(
            self.source.caller.as_ref(),
            audit.call,
            &format_args!("{}", audit.arguments),
            &outcome,
            &trace_id,
        );
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use proto::v1::Command;
    use security::{Kind as Who, Name};

    use super::*;

    /// Every command that the wire can carry, from its descriptor, so that a new one is walked as well.
    fn commands() -> Vec<(String, Command)> {
        let mut found = Vec::new();
        for field in 1..=255_u32 {
            let mut bytes = Vec::new();
            prost::encoding::encode_key(field, prost::encoding::WireType::LengthDelimited, &mut bytes);
            bytes.push(0);
            // Fields of other types are none of the commands.
            let Ok(command) = Command::decode(bytes.as_slice()) else {
                continue;
            };
            if let Some(body) = &command.body
                && !matches!(body, Body::Then(_))
            {
                found.push((call_of(body).to_owned(), command));
            }
        }
        found
    }

    fn source(kind: Who) -> Source {
        Source {
            peer: SocketAddr::from(([127, 0, 0, 1], 1)),
            caller: Some(Caller::from(&Name::new("shop", kind, "7").unwrap())),
            traceparent: None,
        }
    }

    #[test]
    fn every_command_has_a_row_and_only_the_roles_in_it_may_ask() {
        let commands = commands();
        assert_eq!(commands.len(), COMMANDS.len());
        for (call, command) in &commands {
            let row = find(COMMANDS, call).unwrap_or_else(|| panic!("{call} has no row"));
            assert_eq!(Audit::of(0, command, None).is_some(), row.audited, "{call}");
            for kind in Who::ALL {
                let may = source(kind).may(command);
                let allowed = matches!(row.who, security::access::Who::Only(kinds) if kinds.contains(&kind));
                assert_eq!(may.is_ok(), allowed, "{call} by {kind}");
                if let Err(why) = may {
                    assert!(why.contains("needs the role"), "{why}");
                }
            }
        }
    }
}
