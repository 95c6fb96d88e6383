//! Who leads, and calls that go to whoever does.
//!
//! The client is given some endpoints and learns the others from `Cluster.Status`. A leader is a
//! guess until it serves: a node that says it does not lead names another (a hint, followed at once,
//! but not round in circles), and one that cannot be reached is forgotten. With no guess left, every
//! known node is asked at once; the answer is the leader that most agree on, at the highest term, so
//! a leader that was cut off and does not know it yet is not believed for long.
//!
//! What comes from the network is bounded: endpoints are kept up to [`ENDPOINTS_MAX`], and hints are
//! endpoints like others or ignored.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use proto::v1::{StatusRequest, StatusResponse, cluster_client::ClusterClient};
use spans::TraceContext;
use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, sleep, timeout_at},
};
use tonic::{Request, Response, Status, codegen::http::HeaderValue};

use crate::{
    Connector, Error, chance,
    channel::{self, Channel, Home, endpoint},
    error::{RETRY_AFTER_MS, Reason, Verdict, verdict},
    log_time::LogTime,
    queue::{QUEUE_COMMANDS_MAX, QUEUE_FULL},
    retry::pause,
    votes::Votes,
};

/// Most endpoints kept: many times the largest sensible cluster, little enough memory.
pub(crate) const ENDPOINTS_MAX: usize = 64;

/// How long a node may take to say who leads.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);

/// How often the members are asked for by a client that calls, since it may follow one leader, or one hint after
/// the other, until every node that it knew is gone. No cluster is replaced faster.
pub(crate) const MEMBERS_INTERVAL: Duration = Duration::from_secs(30);

/// How long one attempt of a unary call may take: as for a frame of commands.
pub(crate) const ATTEMPT_TIMEOUT: Duration = crate::queue::FRAME_TIMEOUT;

/// Hints followed in a row without a pause: the way to the leader is one hop, two right after an
/// election; more is nodes pointing at each other.
pub(crate) const HINTS_MAX: u32 = 2;

/// The nodes, and who leads them.
pub(crate) struct Nodes {
    connector: Connector,
    home: Home,
    authorization: Option<HeaderValue>,
    seeds: Vec<String>,
    state: Mutex<State>,
    /// Whose turn it is among those who may answer any read.
    turn: AtomicUsize,
    log_time: LogTime,
    /// Held by who asks for the log time, so that a crowd asks once.
    asking: tokio::sync::Mutex<()>,
    /// Log time is known.
    told: Notify,
    /// Places for commands that wait for it.
    waiting: Semaphore,
}

#[derive(Default)]
struct State {
    leader: Option<String>,
    members: Vec<String>,
    // In order, so that they close in one: a simulated run repeats to the byte.
    channels: BTreeMap<String, Channel>,
}

/// May the call simply be made again when it is unclear whether it happened?
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Repeat {
    /// It reads, or is made to be repeated.
    Safe,
    /// Its caller must decide.
    Unsafe,
}

impl Nodes {
    /// Nodes at these `host:port`.
    pub(crate) fn new(
        seeds: Vec<String>,
        connector: Connector,
        authorization: Option<HeaderValue>,
        life: Duration,
    ) -> Result<Nodes, Error> {
        if seeds.is_empty() {
            return Err(Error::invalid(
                "no endpoints: give host:port of at least one node",
            ));
        }
        if seeds.len() > ENDPOINTS_MAX {
            let given = seeds.len();
            return Err(Error::invalid(format!(
                "{given} endpoints: at most {ENDPOINTS_MAX} are used"
            )));
        }
        for seed in &seeds {
            endpoint(seed)?;
        }
        Ok(Nodes {
            connector,
            home: Home::default(),
            authorization,
            seeds,
            state: Mutex::default(),
            turn: AtomicUsize::new(chance::random::<u32>() as usize % ENDPOINTS_MAX),
            log_time: LogTime::new(life),
            asking: tokio::sync::Mutex::default(),
            told: Notify::new(),
            waiting: Semaphore::new(QUEUE_COMMANDS_MAX),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A channel to an endpoint; it connects when used, and again when broken.
    pub(crate) fn channel(&self, address: &str) -> Result<Channel, Error> {
        if let Some(channel) = self.state().channels.get(address) {
            return Ok(channel.clone());
        }
        let channel = channel::open(address, &self.connector, self.authorization.clone(), &self.home)?;
        let mut state = self.state();
        if state.channels.len() >= ENDPOINTS_MAX {
            // Stale ones: whatever is still needed is made again.
            state.channels.clear();
        }
        state.channels.insert(address.to_string(), channel.clone());
        Ok(channel)
    }

    /// Every endpoint known: members first, then those given that are no member's.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        let mut endpoints = self.state().members.clone();
        for seed in &self.seeds {
            if !endpoints.contains(seed) {
                endpoints.push(seed.clone());
            }
        }
        endpoints
    }

    /// Every endpoint known, beginning with another one each time.
    pub(crate) fn endpoints_in_turn(&self) -> Vec<String> {
        let mut endpoints = self.endpoints();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % endpoints.len().max(1);
        endpoints.rotate_left(turn);
        endpoints
    }

    /// That node does not lead. True when it named another one that is worth asking at once.
    pub(crate) fn not_leader(&self, asked: &str, hint: Option<&str>) -> bool {
        let hint = hint.filter(|hint| *hint != asked && endpoint(hint).is_ok());
        let mut state = self.state();
        if let Some(hint) = hint {
            state.leader = Some(hint.to_string());
            return true;
        }
        if state.leader.as_deref() == Some(asked) {
            state.leader = None;
        }
        // Somebody else may have learned better meanwhile.
        state.leader.is_some()
    }

    /// A node that leads no more named this one, or none.
    pub(crate) fn redirect(&self, hint: Option<&str>) {
        self.state().leader = hint.filter(|hint| endpoint(hint).is_ok()).map(str::to_string);
    }

    /// Who leads: the current guess, or whom the nodes name.
    pub(crate) async fn leader(&self) -> Result<String, Error> {
        let guess = self.state().leader.clone();
        match guess {
            Some(leader) => Ok(leader),
            None => self.find().await,
        }
    }

    /// Asks every known node who leads.
    pub(crate) async fn find(&self) -> Result<String, Error> {
        let mut answers: FuturesUnordered<_> = self
            .endpoints()
            .into_iter()
            .map(|address| async move { (self.status(&address).await, address) })
            .collect();
        let mut votes = Votes::default();
        // A node that was cut off or removed may know members of long ago.
        let mut newest: Option<StatusResponse> = None;
        let mut last_error = None;
        while let Some((answer, address)) = answers.next().await {
            match answer {
                Ok(status) => {
                    self.saw_log_time(status.log_time_ms);
                    votes.add(&status, &address);
                    if newest
                        .as_ref()
                        .is_none_or(|newest| newest.committed_index <= status.committed_index)
                    {
                        newest = Some(status);
                    }
                    if votes.is_clear() {
                        break;
                    }
                }
                // A refusal says more than a silence.
                Err(error) if !matches!(last_error, Some(Error::Rejected(_))) => last_error = Some(error),
                Err(_) => {}
            }
        }
        if let Some(newest) = newest {
            self.learn(&newest);
        }
        let nobody_answered = votes.is_empty();
        if let Some(leader) = votes.leader() {
            self.state().leader = Some(leader.clone());
            return Ok(leader);
        }
        Err(last_error
            .filter(|_| nobody_answered)
            .unwrap_or_else(|| Error::unavailable("the nodes that answer know no leader; is a majority up?")))
    }

    /// An answer said what log time it is.
    pub(crate) fn saw_log_time(&self, log_time_ms: u64) {
        self.log_time.saw(log_time_ms, Instant::now());
    }

    /// The latest log time at which so many commands made now may apply. Asks the nodes when it was not seen
    /// lately, until the deadline; one call asks for all that wait.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: no node answers, or too many calls wait for that already.
    pub(crate) async fn not_after_ms(&self, commands: usize, deadline: Instant) -> Result<u64, Error> {
        let known = || self.log_time.not_after_ms(Instant::now());
        if let Some(not_after_ms) = known() {
            return Ok(not_after_ms);
        }
        let places = u32::try_from(commands).unwrap_or(u32::MAX);
        let Ok(_places) = self.waiting.try_acquire_many(places) else {
            return Err(Error::unavailable(QUEUE_FULL));
        };
        let told = self.told.notified();
        tokio::pin!(told);
        told.as_mut().enable();
        let mut tries = 0;
        loop {
            if let Some(not_after_ms) = known() {
                return Ok(not_after_ms);
            }
            let asked = async {
                tokio::select! {
                    // All are told at once, so that their commands leave together.
                    () = told.as_mut() => Ok(String::new()),
                    result = async {
                        let _asking = self.asking.lock().await;
                        // Whoever is asked who leads says what log time it is, too: before the first
                        // command that question would come next anyway.
                        let found = self.find().await;
                        if known().is_some() {
                            self.told.notify_waiters();
                        }
                        found
                    } => result,
                }
            };
            let error = match timeout_at(deadline, asked).await {
                // If still nothing is known, it was answered so long ago that it is no news any more.
                Ok(Ok(_)) => Error::unavailable("the nodes take too long to say what log time it is"),
                Ok(Err(error)) => error,
                Err(_) => Error::unavailable("no node answered within the timeout"),
            };
            if known().is_none() {
                tries += 1;
                rest(tries, deadline, error).await?;
            }
        }
    }

    /// Learns from time to time who the members are, and never ends.
    pub(crate) async fn keep_up(&self) {
        loop {
            sleep(MEMBERS_INTERVAL).await;
            // That nobody leads now, or answers, is for the next call to find out.
            drop(self.find().await);
        }
    }

    fn learn(&self, status: &StatusResponse) {
        let members: Vec<String> = status
            .members
            .iter()
            .map(|member| member.endpoint.clone())
            .filter(|address| endpoint(address).is_ok())
            .take(ENDPOINTS_MAX)
            .collect();
        if !members.is_empty() {
            self.state().members = members;
        }
    }

    /// One node's own view.
    pub(crate) async fn status(&self, address: &str) -> Result<StatusResponse, Error> {
        let mut client = ClusterClient::new(self.channel(address)?);
        let deadline = Instant::now() + STATUS_TIMEOUT;
        match timeout_at(deadline, client.status(timed(StatusRequest {}, STATUS_TIMEOUT))).await {
            Ok(Ok(response)) => {
                let status = response.into_inner();
                self.home.check(address, &status.cluster_id)?;
                Ok(status)
            }
            Ok(Err(status)) => Err(read_error(&status, address)),
            Err(_) => Err(Error::unavailable(format!(
                "{address} did not answer within {STATUS_TIMEOUT:?}"
            ))),
        }
    }

    /// Makes a unary call on the leader, wherever it goes, until the deadline.
    pub(crate) async fn on_leader<T, F, C>(
        &self,
        deadline: Instant,
        repeat: Repeat,
        call: C,
    ) -> Result<T, Error>
    where
        C: Fn(Channel, Duration) -> F,
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut tries = 0;
        let mut hints = 0;
        loop {
            let error = match timeout_at(deadline, self.leader()).await {
                Err(_) => Error::unavailable("no leader was found within the timeout"),
                Ok(Err(error)) => error,
                Ok(Ok(leader)) => match self.attempt(&leader, deadline, repeat, &call).await {
                    Attempt::Done(result) => return result,
                    Attempt::Elsewhere(error, hint) => {
                        if self.not_leader(&leader, hint.as_deref()) && hints < HINTS_MAX {
                            hints += 1;
                            continue;
                        }
                        error
                    }
                    Attempt::Later(error) => error,
                },
            };
            hints = 0;
            tries += 1;
            rest(tries, deadline, error).await?;
        }
    }

    /// Makes a unary read on any node, each in turn, until the deadline.
    pub(crate) async fn on_any<T, F, C>(&self, deadline: Instant, call: C) -> Result<T, Error>
    where
        C: Fn(Channel, Duration) -> F,
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut tries = 0;
        loop {
            let mut last_error = Error::unavailable("no node was asked");
            for address in self.endpoints_in_turn() {
                match self.attempt(&address, deadline, Repeat::Safe, &call).await {
                    Attempt::Done(result) => return result,
                    Attempt::Elsewhere(error, _) | Attempt::Later(error) => last_error = error,
                }
            }
            tries += 1;
            rest(tries, deadline, last_error).await?;
        }
    }

    async fn attempt<T, F, C>(&self, address: &str, deadline: Instant, repeat: Repeat, call: &C) -> Attempt<T>
    where
        C: Fn(Channel, Duration) -> F,
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let channel = match self.channel(address) {
            Ok(channel) => channel,
            Err(error) => return Attempt::Elsewhere(error, None),
        };
        // What must not be repeated has all the time there is; what may is better tried elsewhere.
        let left = deadline.saturating_duration_since(Instant::now());
        let left = if repeat == Repeat::Safe {
            left.min(ATTEMPT_TIMEOUT)
        } else {
            left
        };
        let result = timeout_at(Instant::now() + left, call(channel, left)).await;
        let status = match result {
            Ok(Ok(response)) => return Attempt::Done(Ok(response.into_inner())),
            Ok(Err(status)) => status,
            Err(_) => Status::deadline_exceeded(format!("no answer within {left:?}")),
        };
        match verdict(&status) {
            Verdict::NotLeader(hint) => Attempt::Elsewhere(Error::from(status), hint),
            Verdict::NotTaken {
                message,
                retry_after_ms,
            } => {
                let error = Error::Unavailable {
                    message: format!("{address}: {message}"),
                    retry_after_ms,
                };
                // An overloaded leader still leads.
                match status.code() {
                    tonic::Code::ResourceExhausted => Attempt::Later(error),
                    _ => Attempt::Elsewhere(error, None),
                }
            }
            // No answer of ours: others may be at home.
            Verdict::Final(rejected) if rejected.reason == Reason::WrongCluster => {
                Attempt::Elsewhere(Error::wrong_cluster(address, &rejected.message), None)
            }
            Verdict::Final(rejected) => Attempt::Done(Err(Error::Rejected(rejected))),
            Verdict::Ambiguous(message) => {
                let message = format!("{address}: {message}");
                match repeat {
                    Repeat::Safe => Attempt::Elsewhere(
                        Error::Unavailable {
                            message,
                            retry_after_ms: RETRY_AFTER_MS,
                        },
                        None,
                    ),
                    Repeat::Unsafe => Attempt::Done(Err(Error::Unknown {
                        message,
                        not_after_ms: u64::MAX,
                    })),
                }
            }
        }
    }
}

enum Attempt<T> {
    Done(Result<T, Error>),
    /// Not here; perhaps there.
    Elsewhere(Error, Option<String>),
    /// Here, but later.
    Later(Error),
}

/// Pauses before another try, or gives up with this error when the deadline comes first.
async fn rest(tries: u32, deadline: Instant, error: Error) -> Result<(), Error> {
    let asked = match &error {
        // The default is for people; an explicit shorter or longer time is a node's wish.
        Error::Unavailable { retry_after_ms, .. } if *retry_after_ms != RETRY_AFTER_MS => *retry_after_ms,
        _ => 0,
    };
    let pause = pause(tries, chance::random()).max(Duration::from_millis(asked));
    if deadline.saturating_duration_since(Instant::now()) <= pause {
        return Err(error);
    }
    sleep(pause).await;
    Ok(())
}

/// A request that tells the node how long its caller waits, and which trace it belongs to if anybody follows it.
pub(crate) fn timed<T>(message: T, left: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(left);
    if let Some(step) = spans::current().filter(TraceContext::is_sampled) {
        let traceparent = step.to_string().parse().expect("hex digits and dashes");
        request.metadata_mut().insert("traceparent", traceparent);
    }
    request
}

/// The error of a read: nothing can have changed, so nothing is unknown.
pub(crate) fn read_error(status: &Status, address: &str) -> Error {
    match verdict(status) {
        Verdict::Final(rejected) if rejected.reason == Reason::WrongCluster => {
            Error::wrong_cluster(address, &rejected.message)
        }
        Verdict::Final(rejected) => Error::Rejected(rejected),
        Verdict::NotTaken {
            message,
            retry_after_ms,
        } => Error::Unavailable {
            message: format!("{address}: {message}"),
            retry_after_ms,
        },
        Verdict::NotLeader(_) => Error::unavailable(format!("{address} does not lead")),
        Verdict::Ambiguous(message) => Error::unavailable(format!("{address}: {message}")),
    }
}
