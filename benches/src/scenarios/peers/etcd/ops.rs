//! What transactions are made of, and what they give back.

use std::str::FromStr;

use tonic::transport::Channel;

use self::v3::{
    Compare, KeyValue, PutRequest, RangeRequest, RangeResponse, RequestOp, ResponseOp, TxnRequest,
    TxnResponse,
    compare::{CompareTarget, TargetUnion},
    kv_client::KvClient,
    request_op::Request,
    response_op::Response,
};
use crate::failure::{Doing, Failure};

/// `etcdserverpb`, the part of it that is used here.
#[allow(missing_docs, clippy::all)]
pub mod v3 {
    tonic::include_proto!("etcdserverpb");
}

/// Operations in one list of a transaction, as etcd limits them unless told otherwise; a nested transaction may have as
/// many as its parent leaves.
pub const OPERATIONS_MAX: usize = 128;

const READING: &str = "reading an answer of etcd";

/// If there is no such key.
pub fn absent(key: &str) -> Compare {
    Compare {
        target: CompareTarget::Create.into(),
        key: key.into(),
        target_union: Some(TargetUnion::CreateRevision(0)),
        ..Compare::default()
    }
}

/// If it was last put at this revision.
pub fn unchanged(key: &str, revision: i64) -> Compare {
    Compare {
        target: CompareTarget::Mod.into(),
        key: key.into(),
        target_union: Some(TargetUnion::ModRevision(revision)),
        ..Compare::default()
    }
}

/// Put.
pub fn put(key: &str, value: String) -> RequestOp {
    let put = PutRequest {
        key: key.into(),
        value: value.into(),
    };
    RequestOp {
        request: Some(Request::RequestPut(put)),
    }
}

/// Get.
pub fn get(key: &str) -> RequestOp {
    let range = RangeRequest {
        key: key.into(),
        ..RangeRequest::default()
    };
    RequestOp {
        request: Some(Request::RequestRange(range)),
    }
}

/// Count the keys that begin so.
pub fn count(prefix: &str) -> RequestOp {
    let mut end: Vec<u8> = prefix.into();
    // Prefixes end in a slash, so that the next larger string of that length ends in what follows a slash.
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    let range = RangeRequest {
        key: prefix.into(),
        range_end: end,
        count_only: true,
    };
    RequestOp {
        request: Some(Request::RequestRange(range)),
    }
}

/// One transaction in another.
pub fn nested(txn: TxnRequest) -> RequestOp {
    RequestOp {
        request: Some(Request::RequestTxn(txn)),
    }
}

/// Runs a transaction.
pub async fn run(etcd: &mut KvClient<Channel>, txn: TxnRequest) -> Result<TxnResponse, Failure> {
    let response = etcd.txn(txn).await.doing("claiming from etcd")?;
    Ok(response.into_inner())
}

/// What a nested transaction gave.
pub fn nested_response(response: ResponseOp) -> Result<TxnResponse, Failure> {
    match response.response {
        Some(Response::ResponseTxn(txn)) => Ok(txn),
        other => Err(Failure::new(READING, format!("no transaction but {other:?}"))),
    }
}

/// What get gave: the key, if it is there.
pub fn found(response: Option<ResponseOp>) -> Result<Option<KeyValue>, Failure> {
    Ok(range(response)?.kvs.pop())
}

/// What count gave.
pub fn counted(response: Option<ResponseOp>) -> Result<u64, Failure> {
    u64::try_from(range(response)?.count).doing(READING)
}

fn range(response: Option<ResponseOp>) -> Result<RangeResponse, Failure> {
    match response.and_then(|response| response.response) {
        Some(Response::ResponseRange(range)) => Ok(range),
        other => Err(Failure::new(READING, format!("no range but {other:?}"))),
    }
}

/// A value of two words.
pub fn words<A: FromStr, B: FromStr>(value: &[u8]) -> Result<(A, B), Failure> {
    let text = String::from_utf8_lossy(value);
    let parsed = text.split_once(' ').and_then(|(first, second)| {
        let (first, second) = (first.parse().ok()?, second.parse().ok()?);
        Some((first, second))
    });
    parsed.ok_or_else(|| Failure::new(READING, format!("a value {text:?}")))
}
