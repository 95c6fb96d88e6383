//! What nodes answer, under fire: see package `fuzz`. A node that was broken into, or a newer one, must not take
//! its clients down.

use std::collections::HashMap;

use fuzz::Target;
use prost::Message;
use proto::v1::{self, SubmitResponse, outcome::Kind};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{convert, error::verdict, leader::ENDPOINTS_MAX, model::Position, votes::Votes};

const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn fuzz_answers() {
    let claim = v1::Claim {
        claim_id: "c".repeat(41),
        status: 1,
        quantity: 1,
        receipt: Some(v1::Receipt::default()),
        ..v1::Claim::default()
    };
    let kinds = [
        Kind::Claim(v1::Granted {
            grant: 1,
            claim: Some(claim.clone()),
        }),
        Kind::Settled(claim.clone()),
        Kind::Done(v1::Receipt::default()),
        Kind::Document(v1::DocumentDone::default()),
        Kind::Rejected(v1::Rejected {
            reason: 1,
            message: "no".into(),
            ..v1::Rejected::default()
        }),
        Kind::Unsubmitted(v1::Unsubmitted {
            cause: 1,
            leader_endpoint: "a:1".into(),
            ..v1::Unsubmitted::default()
        }),
        Kind::Unknown(v1::Unknown::default()),
    ];
    let response = SubmitResponse {
        frame_id: 7,
        outcomes: kinds.map(|kind| v1::Outcome { kind: Some(kind) }).to_vec(),
        position: Some(v1::Position::default()),
        runs: vec![v1::Run::default()],
        ..SubmitResponse::default()
    };
    let watched = v1::WatchResponse {
        events: vec![v1::Event {
            claim: Some(claim),
            ..v1::Event::default()
        }],
        sale: Some(v1::Sale::default()),
        position: Some(v1::Position::default()),
    };
    let status = v1::StatusResponse {
        cluster_id: "aa".into(),
        leader_id: 1,
        leader_endpoint: "a:1".into(),
        term: 3,
        members: vec![v1::Member::default()],
        ..v1::StatusResponse::default()
    };
    let details = ErrorDetails::with_error_info(
        "NOT_LEADER",
        "holdfast",
        HashMap::from([("leader".into(), "a:1".into())]),
    );
    let refused = Status::with_error_details(Code::Unavailable, "no", details);
    let known = [
        response.encode_to_vec(),
        watched.encode_to_vec(),
        status.encode_to_vec(),
        refused.details().to_vec(),
    ];
    Target::new("answers", PACKAGE).known(known).run(|bytes| {
        let mut answers = Vec::new();
        if let Ok(response) = SubmitResponse::decode(bytes) {
            assert_eq!(
                SubmitResponse::decode(response.encode_to_vec().as_slice()).as_ref(),
                Ok(&response)
            );
            for outcome in response.outcomes.into_iter().take(64) {
                let Some(kind) = outcome.kind else {
                    answers.push("nothing".to_owned());
                    continue;
                };
                answers.push(format!(
                    "{:?}",
                    convert::claimed(kind.clone(), Position::default()).is_ok()
                ));
                answers.push(format!(
                    "{:?}",
                    convert::settled(kind.clone(), Position::default()).is_ok()
                ));
                answers.push(format!(
                    "{:?}",
                    convert::document_changed(kind.clone(), Position::default()).is_ok()
                ));
                answers.push(format!("{:?}", convert::done(kind).is_ok()));
            }
        }
        if let Ok(response) = v1::WatchResponse::decode(bytes) {
            answers.push(format!(
                "{} events",
                convert::update(response).events.len().min(2)
            ));
        }
        if let Ok(status) = v1::StatusResponse::decode(bytes) {
            let mut votes = Votes::default();
            votes.add(&status, "b:2");
            answers.push(format!("leads {}", votes.leader().is_some()));
            assert!(status.members.len() <= bytes.len().max(ENDPOINTS_MAX));
        }
        let status = Status::with_details(Code::Unavailable, "no", bytes.to_vec().into());
        answers.push(format!("{:?}", std::mem::discriminant(&verdict(&status))));
        answers.join(" ")
    });
}
