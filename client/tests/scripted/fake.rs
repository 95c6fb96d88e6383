//! Nodes that do what the test says: they speak real gRPC over pipes in memory, hand every request to
//! the test, and answer what it answers. With tokio's paused clock nothing waits for real time.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
};

use client::{Builder, Client, Connector, Io};
use futures::{Stream, StreamExt, stream::BoxStream};
use proto::v1::{
    cluster_server::{Cluster, ClusterServer},
    inventory_server::{Inventory, InventoryServer},
    *,
};
use tokio::{
    io::{DuplexStream, duplex},
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        oneshot,
    },
    task::JoinHandle,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming, transport::Server};
use tonic_types::{ErrorDetails, StatusExt};

/// Bytes a pipe holds.
const PIPE_BYTES: usize = 64 * 1024;

/// Requests of one kind, in order of arrival.
pub struct Inbox<T>(UnboundedReceiver<T>);

impl<T> Inbox<T> {
    /// The next one, whenever it comes.
    pub async fn next(&mut self) -> T {
        self.0.recv().await.expect("the node is gone")
    }

    /// One that is here already.
    pub fn now(&mut self) -> Option<T> {
        self.0.try_recv().ok()
    }
}

/// A unary request and the way to answer it.
pub struct Ask<Q, A> {
    pub request: Q,
    answer: oneshot::Sender<Result<A, Status>>,
}

impl<Q, A> Ask<Q, A> {
    pub fn answer(self, answer: Result<A, Status>) {
        // The client may have stopped waiting; that is its right.
        drop(self.answer.send(answer));
    }
}

/// A frame and the way to answer it.
pub struct Frame {
    pub request: SubmitRequest,
    replies: UnboundedSender<Result<SubmitResponse, Status>>,
}

impl Frame {
    pub fn keys(&self) -> Vec<String> {
        self.request
            .commands
            .iter()
            .map(|command| command.key.clone())
            .collect()
    }

    /// Answers each command in order.
    pub fn answer(&self, outcome: impl Fn(&Command) -> outcome::Kind) {
        self.answer_at(outcome, 1_000);
    }

    /// Answers each command in order, at this log time.
    pub fn answer_at(&self, outcome: impl Fn(&Command) -> outcome::Kind, log_time_ms: u64) {
        let outcomes = self
            .request
            .commands
            .iter()
            .map(|command| Outcome {
                kind: Some(outcome(command)),
            })
            .collect();
        self.reply(outcomes, log_time_ms);
    }

    pub fn answer_raw(&self, outcomes: Vec<Outcome>) {
        self.reply(outcomes, 1_000);
    }

    fn reply(&self, outcomes: Vec<Outcome>, log_time_ms: u64) {
        let position = Some(Position {
            log_time_ms,
            applied_index: 7,
            ..Position::default()
        });
        drop(self.replies.send(Ok(SubmitResponse {
            frame_id: self.request.frame_id,
            outcomes,
            position,
            ..SubmitResponse::default()
        })));
    }

    /// Breaks the stream it came on.
    pub fn break_stream(&self) {
        drop(self.replies.send(Err(Status::internal("scripted"))));
    }
}

/// Whoever watches, and the way to send to him.
pub struct Watcher {
    pub request: WatchRequest,
    pub updates: UnboundedSender<Result<WatchResponse, Status>>,
}

impl Watcher {
    /// Sends events `(log index, ordinal)`.
    pub fn send(&self, places: &[(u64, u32)]) {
        let event = |&(log_index, ordinal)| Event {
            log_index,
            ordinal,
            ..Event::default()
        };
        let events = places.iter().map(event).collect();
        drop(self.updates.send(Ok(WatchResponse {
            events,
            ..WatchResponse::default()
        })));
    }
}

/// A scripted node, as its test holds it.
pub struct Node {
    pub frames: Inbox<Frame>,
    pub sales: Inbox<Ask<GetSaleRequest, GetSaleResponse>>,
    pub claims: Inbox<Ask<GetClaimRequest, GetClaimResponse>>,
    pub resolves: Inbox<Ask<ResolveRequest, Outcome>>,
    pub watchers: Inbox<Watcher>,
    pub learners: Inbox<Ask<AddLearnerRequest, MembershipResponse>>,
}

/// The network that fake nodes are on.
#[derive(Clone, Default)]
pub struct Net(Arc<Mutex<Wires>>);

#[derive(Default)]
struct Wires {
    listeners: HashMap<String, UnboundedSender<DuplexStream>>,
    relays: HashMap<String, Vec<JoinHandle<()>>>,
    views: HashMap<String, StatusResponse>,
    /// Where the history of some nodes begins.
    compacted: HashMap<String, u64>,
}

/// How a node refuses a watch of history that it has no more.
pub fn compacted(first_index: u64) -> Status {
    let mut details = ErrorDetails::new();
    let metadata = HashMap::from([("first_index".into(), first_index.to_string())]);
    details.set_error_info("COMPACTED", "holdfast", metadata);
    Status::with_error_details(Code::OutOfRange, "compacted", details)
}

impl Net {
    /// A client that is given these endpoints and reaches nothing but this network.
    pub fn client(&self, endpoints: &[&str]) -> Client {
        self.builder(endpoints).build().expect("good endpoints")
    }

    pub fn builder(&self, endpoints: &[&str]) -> Builder {
        Client::builder()
            .endpoints(endpoints.iter().copied())
            .connector(self.connector())
    }

    fn connector(&self) -> Connector {
        let net = self.clone();
        Arc::new(move |address| {
            let connected = net.connect(&address);
            Box::pin(async move { connected.map(|pipe| Box::new(pipe) as Box<dyn Io>) })
        })
    }

    fn connect(&self, address: &str) -> io::Result<DuplexStream> {
        let mut wires = self.0.lock().unwrap();
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let listener = wires.listeners.get(address).ok_or_else(refused)?;
        let (client, mut client_side) = duplex(PIPE_BYTES);
        let (server, mut server_side) = duplex(PIPE_BYTES);
        listener.send(server).map_err(|_| refused())?;
        let relay = tokio::spawn(async move {
            drop(tokio::io::copy_bidirectional(&mut client_side, &mut server_side).await);
        });
        wires.relays.entry(address.to_string()).or_default().push(relay);
        Ok(client)
    }

    /// Starts a node; it answers `Status` by itself and hands the rest to the test.
    pub fn node(&self, address: &str) -> Node {
        let (service, node) = service(address, self.clone());
        let (listener, connections) = unbounded_channel();
        self.0
            .lock()
            .unwrap()
            .listeners
            .insert(address.to_string(), listener);
        let incoming = UnboundedReceiverStream::new(connections).map(Ok::<_, io::Error>);
        tokio::spawn(
            Server::builder()
                .add_service(InventoryServer::new(service.clone()))
                .add_service(ClusterServer::new(service))
                .serve_with_incoming(incoming),
        );
        node
    }

    /// From now on every node says so: this one leads, these are members.
    pub fn lead(&self, leader: &str, term: u64, members: &[&str]) {
        for member in members {
            self.view(member, leader, term, members);
        }
    }

    /// From now on this node says so.
    pub fn view(&self, node: &str, leader: &str, term: u64, members: &[&str]) {
        let id = |address: &str| {
            members
                .iter()
                .position(|member| *member == address)
                .map_or(0, |at| at as u64 + 1)
        };
        let list = members.iter().map(|member| Member {
            node_id: id(member),
            endpoint: member.to_string(),
            voter: true,
            ..Member::default()
        });
        let view = StatusResponse {
            node_id: id(node),
            endpoint: node.to_string(),
            role: if node == leader { "leader" } else { "follower" }.to_string(),
            term,
            leader_id: id(leader),
            leader_endpoint: leader.to_string(),
            applied_index: 40,
            members: list.collect(),
            ..StatusResponse::default()
        };
        self.0.lock().unwrap().views.insert(node.to_string(), view);
    }

    /// From now on this node says that it is this log time.
    pub fn log_time(&self, node: &str, log_time_ms: u64) {
        let mut wires = self.0.lock().unwrap();
        wires.views.entry(node.to_string()).or_default().log_time_ms = log_time_ms;
    }

    /// From now on this node refuses watches of what was before this index.
    pub fn compact(&self, node: &str, first_index: u64) {
        let mut wires = self.0.lock().unwrap();
        wires.compacted.insert(node.to_string(), first_index);
    }

    /// Kills a node: its connections end in the middle of whatever they carry, and none is made again.
    pub fn kill(&self, address: &str) {
        let mut wires = self.0.lock().unwrap();
        wires.listeners.remove(address);
        for relay in wires.relays.remove(address).unwrap_or_default() {
            relay.abort();
        }
    }

    fn status(&self, address: &str) -> StatusResponse {
        self.0
            .lock()
            .unwrap()
            .views
            .get(address)
            .cloned()
            .unwrap_or_default()
    }
}

#[derive(Clone)]
pub struct Service {
    address: String,
    net: Net,
    frames: UnboundedSender<Frame>,
    sales: UnboundedSender<Ask<GetSaleRequest, GetSaleResponse>>,
    claims: UnboundedSender<Ask<GetClaimRequest, GetClaimResponse>>,
    resolves: UnboundedSender<Ask<ResolveRequest, Outcome>>,
    watchers: UnboundedSender<Watcher>,
    learners: UnboundedSender<Ask<AddLearnerRequest, MembershipResponse>>,
}

pub fn service(address: &str, net: Net) -> (Service, Node) {
    let (frames, frames_in) = unbounded_channel();
    let (sales, sales_in) = unbounded_channel();
    let (claims, claims_in) = unbounded_channel();
    let (resolves, resolves_in) = unbounded_channel();
    let (watchers, watchers_in) = unbounded_channel();
    let (learners, learners_in) = unbounded_channel();
    let node = Node {
        frames: Inbox(frames_in),
        sales: Inbox(sales_in),
        claims: Inbox(claims_in),
        resolves: Inbox(resolves_in),
        watchers: Inbox(watchers_in),
        learners: Inbox(learners_in),
    };
    let address = address.to_string();
    (
        Service {
            address,
            net,
            frames,
            sales,
            claims,
            resolves,
            watchers,
            learners,
        },
        node,
    )
}

async fn ask<Q, A>(inbox: &UnboundedSender<Ask<Q, A>>, request: Request<Q>) -> Result<Response<A>, Status> {
    let (answer, answered) = oneshot::channel();
    let gone = |_| Status::internal("the test is over");
    inbox
        .send(Ask {
            request: request.into_inner(),
            answer,
        })
        .map_err(|_| gone(()))?;
    answered.await.map_err(|_| gone(()))?.map(Response::new)
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Inventory for Service {
    type SubmitStream = Answers<SubmitResponse>;
    type WatchStream = Answers<WatchResponse>;

    async fn submit(
        &self,
        request: Request<Streaming<SubmitRequest>>,
    ) -> Result<Response<Self::SubmitStream>, Status> {
        let (replies, answers) = unbounded_channel();
        let frames = self.frames.clone();
        let mut requests = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                if frames
                    .send(Frame {
                        request,
                        replies: replies.clone(),
                    })
                    .is_err()
                {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(answers))))
    }

    async fn execute(&self, _: Request<SubmitRequest>) -> Result<Response<SubmitResponse>, Status> {
        Err(Status::unimplemented("the client never calls this"))
    }

    async fn get_sale(&self, request: Request<GetSaleRequest>) -> Result<Response<GetSaleResponse>, Status> {
        ask(&self.sales, request).await
    }

    async fn list_sales(&self, _: Request<ListSalesRequest>) -> Result<Response<ListSalesResponse>, Status> {
        Ok(Response::new(ListSalesResponse::default()))
    }

    async fn get_claim(
        &self,
        request: Request<GetClaimRequest>,
    ) -> Result<Response<GetClaimResponse>, Status> {
        ask(&self.claims, request).await
    }

    async fn list_claims(
        &self,
        _: Request<ListClaimsRequest>,
    ) -> Result<Response<ListClaimsResponse>, Status> {
        let claims = vec![Claim {
            rank: 1,
            ..Claim::default()
        }];
        Ok(Response::new(ListClaimsResponse {
            claims,
            position: None,
        }))
    }

    async fn get_document(
        &self,
        _: Request<GetDocumentRequest>,
    ) -> Result<Response<GetDocumentResponse>, Status> {
        Err(Status::unimplemented("the client never calls this"))
    }

    async fn list_documents(
        &self,
        _: Request<ListDocumentsRequest>,
    ) -> Result<Response<ListDocumentsResponse>, Status> {
        Err(Status::unimplemented("the client never calls this"))
    }

    async fn resolve(&self, request: Request<ResolveRequest>) -> Result<Response<Outcome>, Status> {
        ask(&self.resolves, request).await
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let first_index = self.net.0.lock().unwrap().compacted.get(&self.address).copied();
        if let Some(first_index) = first_index.filter(|&first_index| request.from_index < first_index) {
            return Err(compacted(first_index));
        }
        let (updates, items) = unbounded_channel();
        drop(self.watchers.send(Watcher { request, updates }));
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(items))))
    }
}

#[tonic::async_trait]
impl Cluster for Service {
    async fn init(&self, request: Request<InitRequest>) -> Result<Response<InitResponse>, Status> {
        match request.into_inner().members.len() {
            1 => Ok(Response::new(InitResponse {
                cluster_id: "feed".into(),
            })),
            _ => Err(Status::already_exists(
                "this node belongs to cluster feed already",
            )),
        }
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(self.net.status(&self.address)))
    }

    async fn state_hash(
        &self,
        request: Request<StateHashRequest>,
    ) -> Result<Response<StateHashResponse>, Status> {
        let log_index = request.into_inner().log_index;
        Ok(Response::new(StateHashResponse {
            log_index,
            ..StateHashResponse::default()
        }))
    }

    async fn add_learner(
        &self,
        request: Request<AddLearnerRequest>,
    ) -> Result<Response<MembershipResponse>, Status> {
        ask(&self.learners, request).await
    }

    async fn promote(&self, _: Request<PromoteRequest>) -> Result<Response<MembershipResponse>, Status> {
        Err(Status::failed_precondition("node 4 is 900 entries behind; wait"))
    }

    async fn remove(&self, _: Request<RemoveRequest>) -> Result<Response<MembershipResponse>, Status> {
        Ok(Response::new(MembershipResponse::default()))
    }

    async fn transfer_leader(
        &self,
        _: Request<TransferLeaderRequest>,
    ) -> Result<Response<TransferLeaderResponse>, Status> {
        Ok(Response::new(TransferLeaderResponse { term: 9 }))
    }

    async fn take_snapshot(
        &self,
        _: Request<TakeSnapshotRequest>,
    ) -> Result<Response<SnapshotsResponse>, Status> {
        Ok(Response::new(SnapshotsResponse::default()))
    }

    async fn list_snapshots(
        &self,
        _: Request<ListSnapshotsRequest>,
    ) -> Result<Response<SnapshotsResponse>, Status> {
        Ok(Response::new(SnapshotsResponse::default()))
    }

    type BackupStream = BoxStream<'static, Result<BackupPart, Status>>;

    async fn backup(&self, _: Request<BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        Err(Status::unimplemented("a fake has nothing to back up"))
    }
}

/// A grant whose claim id is the command's key, so that mixed-up answers show.
pub fn granted(command: &Command) -> outcome::Kind {
    grant(Grant::Granted, &command.key)
}

pub fn grant(grant: Grant, claim_id: &str) -> outcome::Kind {
    let claim = Claim {
        claim_id: claim_id.into(),
        status: ClaimStatus::Held.into(),
        ..Claim::default()
    };
    outcome::Kind::Claim(Granted {
        grant: grant.into(),
        claim: Some(claim),
    })
}

pub fn refused(reason: Reason) -> outcome::Kind {
    outcome::Kind::Rejected(Rejected {
        reason: reason.into(),
        ..Rejected::default()
    })
}

pub fn not_leader(leader: &str) -> outcome::Kind {
    unsubmitted(unsubmitted::Cause::NotLeader, leader)
}

pub fn unsubmitted(cause: unsubmitted::Cause, leader: &str) -> outcome::Kind {
    outcome::Kind::Unsubmitted(Unsubmitted {
        cause: cause.into(),
        leader_endpoint: leader.into(),
        message: "scripted".into(),
        ..Unsubmitted::default()
    })
}

pub fn unknown(not_after_ms: u64) -> outcome::Kind {
    outcome::Kind::Unknown(Unknown {
        message: "scripted".into(),
        not_after_ms,
    })
}

pub fn resolved(kind: resolution::Kind) -> Result<Outcome, Status> {
    Ok(Outcome {
        kind: Some(outcome::Kind::Resolved(Resolution {
            kind: Some(kind),
            position: None,
        })),
    })
}
