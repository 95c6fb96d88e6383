//! Searches an order that explains every answer: Wing and Gong's algorithm ("Testing and verifying concurrent
//! objects", 1993) with Lowe's memoised states ("Testing for linearizability", 2017).
//!
//! At every moment the operations that may come next are those that began before any other left has ended.
//! One is taken, and when nothing leads on from there, taken back. A set of taken operations together with a
//! state is tried once. Operations may carry a rank, and then come in rank order: log time, which never falls,
//! or the place in the log, which turns the search into a witness that leaves only the unknowns open.
//!
//! Operations that nobody heard back from never end. They are tried last, and only where they would change
//! something: an unknown without effect is as good as one that never happened.
//!
//! The memory keeps 128-bit fingerprints, not states: two that collide would hide an order from the search,
//! once in some 10^24 runs.

use hashbrown::HashSet;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::budget::{Bound, Budget};
use crate::models::{Model, Way};

/// When an operation happened.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// It began with this event.
    pub began: u32,
    /// It had happened when this event came; none: nobody ever heard.
    pub ended: Option<u32>,
    /// Operations with a rank happen in rank order. One that nobody heard back from has none.
    pub rank: u64,
}

/// What came of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// An order that explains every answer: operations and, for the unheard, how.
    Order(Vec<(usize, Option<Way>)>),
    /// There is none.
    Nothing {
        /// The longest order that was found.
        longest: Vec<usize>,
        /// Operations that cannot come next after it, though they would have to.
        stuck: Vec<usize>,
    },
    /// A limit was reached first.
    GaveUp(Bound),
}

/// No operation.
const NONE: u32 = u32::MAX;

/// A doubly linked list over the numbers below its length; what is taken out can be put back in reverse order.
struct List {
    next: Vec<u32>,
    previous: Vec<u32>,
}

impl List {
    /// A list of these, in this order; the list's own head is `nodes`.
    fn new(nodes: usize, order: impl Iterator<Item = u32>) -> List {
        let head = nodes as u32;
        let mut list = List {
            next: vec![head; nodes + 1],
            previous: vec![head; nodes + 1],
        };
        let mut last = head;
        for node in order {
            list.next[last as usize] = node;
            list.previous[node as usize] = last;
            last = node;
        }
        list.next[last as usize] = head;
        list.previous[head as usize] = last;
        list
    }

    fn first(&self) -> u32 {
        self.after(self.next.len() as u32 - 1)
    }

    fn after(&self, node: u32) -> u32 {
        let next = self.next[node as usize];
        if next as usize == self.next.len() - 1 {
            NONE
        } else {
            next
        }
    }

    fn take(&mut self, node: u32) {
        let (previous, next) = (self.previous[node as usize], self.next[node as usize]);
        self.next[previous as usize] = next;
        self.previous[next as usize] = previous;
    }

    fn put_back(&mut self, node: u32) {
        let (previous, next) = (self.previous[node as usize], self.next[node as usize]);
        self.next[previous as usize] = node;
        self.previous[next as usize] = node;
    }
}

/// One operation that was taken, and where to go on when it is taken back.
struct Taken {
    operation: u32,
    way: Option<Way>,
    mark: usize,
    /// Ways of this operation that have not been tried, on the stack of ways from here.
    ways_from: usize,
    /// Before it was taken, some other operation had been refused.
    refused: bool,
}

struct Search<'a, M: Model> {
    model: &'a M,
    spans: &'a [Span],
    state: M::State,
    /// Operations with an answer, by when they began, and by when they ended.
    by_begin: List,
    by_end: List,
    /// Operations without, by when they began.
    unheard: List,
    /// Rank of each operation with an answer, counted from zero; how many are left of each; the lowest left.
    rank: Vec<u32>,
    rank_left: Vec<u32>,
    rank_first: Vec<u32>,
    rank_now: usize,
    taken: Vec<Taken>,
    /// Ways not tried yet, of all operations taken.
    ways: Vec<Way>,
    /// Which operations are taken, as a sum of their own hashes.
    taken_hash: u128,
    left: usize,
    seen: HashSet<u128, Fingerprints>,
    budget: &'a mut Budget,
    longest: Vec<usize>,
    stuck: Vec<usize>,
}

/// Fingerprints are hashes already.
#[derive(Clone, Copy, Default)]
struct Fingerprints;

impl std::hash::BuildHasher for Fingerprints {
    type Hasher = Low;
    fn build_hasher(&self) -> Low {
        Low(0)
    }
}

struct Low(u64);

impl std::hash::Hasher for Low {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("only fingerprints are remembered")
    }
    fn write_u128(&mut self, fingerprint: u128) {
        self.0 = fingerprint as u64;
    }
}

/// Searches an order for operations that happened in these spans.
pub fn search<M: Model>(model: &M, spans: &[Span], budget: &mut Budget) -> Found {
    Search::new(model, spans, budget).run()
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, spans: &'a [Span], budget: &'a mut Budget) -> Search<'a, M> {
        let nodes = spans.len();
        let sorted = |keep: &dyn Fn(&Span) -> bool, key: &dyn Fn(&Span) -> u64| {
            let mut order: Vec<u32> = (0..nodes as u32)
                .filter(|&node| keep(&spans[node as usize]))
                .collect();
            order.sort_by_key(|&node| key(&spans[node as usize]));
            order
        };
        let heard = |span: &Span| span.ended.is_some();
        let by_rank = sorted(&heard, &|span| span.rank);
        let (mut rank, mut rank_left, mut rank_first) = (vec![0; nodes], Vec::new(), Vec::new());
        for (index, &node) in by_rank.iter().enumerate() {
            if index == 0 || spans[by_rank[index - 1] as usize].rank != spans[node as usize].rank {
                rank_left.push(0);
                rank_first.push(node);
            }
            rank[node as usize] = rank_left.len() as u32 - 1;
            *rank_left.last_mut().expect("pushed before the first") += 1;
        }
        let began = |span: &Span| u64::from(span.began);
        let ended = |span: &Span| span.ended.map_or(u64::MAX, u64::from);
        Search {
            model,
            spans,
            state: model.start(),
            by_begin: List::new(nodes, sorted(&heard, &began).into_iter()),
            by_end: List::new(nodes, sorted(&heard, &ended).into_iter()),
            unheard: List::new(nodes, sorted(&|span| !heard(span), &began).into_iter()),
            left: by_rank.len(),
            rank,
            rank_left,
            rank_first,
            rank_now: 0,
            taken: Vec::new(),
            ways: Vec::new(),
            taken_hash: 0,
            seen: HashSet::default(),
            budget,
            longest: Vec::new(),
            stuck: Vec::new(),
        }
    }

    fn run(mut self) -> Found {
        // Where to look for the next operation: after this one, first among the heard, then the unheard.
        let mut after: Option<(u32, bool)> = None;
        loop {
            if self.left == 0 {
                let order = self
                    .taken
                    .iter()
                    .map(|taken| (taken.operation as usize, taken.way));
                return Found::Order(order.collect());
            }
            let taken = self.advance(after);
            if let Some(bound) = self.budget.reached(self.seen.len()) {
                return Found::GaveUp(bound);
            }
            match taken {
                true => after = None,
                false => {
                    if self.taken.len() > self.longest.len() || self.stuck.is_empty() {
                        self.longest = self.taken.iter().map(|taken| taken.operation as usize).collect();
                        self.stuck = self.candidates();
                    }
                    match self.take_back() {
                        // Another way of the same operation was taken.
                        Some(None) => after = None,
                        Some(Some(operation)) => after = Some(operation),
                        None => {
                            return Found::Nothing {
                                longest: self.longest,
                                stuck: self.stuck,
                            };
                        }
                    }
                }
            }
        }
    }

    /// The event by which something left had happened: nothing that began later can come next.
    fn horizon(&self) -> u32 {
        match self.by_end.first() {
            NONE => NONE,
            node => self.spans[node as usize]
                .ended
                .expect("only the heard are in this list"),
        }
    }

    /// Operations with an answer that may come next.
    fn candidates(&self) -> Vec<usize> {
        let (mut node, horizon) = (self.by_begin.first(), self.horizon());
        let mut found = Vec::new();
        while node != NONE && self.spans[node as usize].began < horizon {
            if self.rank[node as usize] as usize == self.rank_now {
                found.push(node as usize);
            }
            node = self.by_begin.after(node);
        }
        if found.is_empty() {
            // Rank and time contradict each other: whoever must come next cannot.
            found.push(self.rank_first[self.rank_now] as usize);
        }
        found
    }

    /// Takes the next operation that leads to a state not seen, looking after this one.
    fn advance(&mut self, after: Option<(u32, bool)>) -> bool {
        let horizon = self.horizon();
        let heard = |spans: &[Span], node: u32| spans[node as usize].ended.is_some();
        let mut refused = after.is_some_and(|(_, refused)| refused);
        let mut node = match after {
            None => self.by_begin.first(),
            Some((after, _)) if heard(self.spans, after) => self.by_begin.after(after),
            Some(_) => NONE,
        };
        while node != NONE && self.spans[node as usize].began < horizon {
            if self.rank[node as usize] as usize == self.rank_now {
                let mark = self.model.mark(&self.state);
                self.budget.tries += 1;
                let right = self.model.known(&mut self.state, node as usize);
                if right && self.is_new(node) {
                    let ways_from = self.ways.len();
                    self.push(Taken {
                        operation: node,
                        way: None,
                        mark,
                        ways_from,
                        refused,
                    });
                    return true;
                }
                refused |= !right;
                self.model.undo(&mut self.state, mark);
            }
            node = self.by_begin.after(node);
        }
        let mut node = match after {
            Some((after, _)) if !heard(self.spans, after) => self.unheard.after(after),
            _ => self.unheard.first(),
        };
        while node != NONE && self.spans[node as usize].began < horizon {
            self.budget.tries += 1;
            let from = self.ways.len();
            let next = self.rank_first[self.rank_now] as usize;
            self.model
                .ways(&self.state, node as usize, next, refused, &mut self.ways);
            self.ways[from..].reverse();
            if self.try_ways(node, from, refused) {
                return true;
            }
            node = self.unheard.after(node);
        }
        false
    }

    /// Takes an unheard operation in the next way that leads to a state not seen.
    fn try_ways(&mut self, node: u32, ways_from: usize, refused: bool) -> bool {
        while self.ways.len() > ways_from {
            let way = self.ways.pop().expect("there are more");
            let mark = self.model.mark(&self.state);
            self.budget.tries += 1;
            if self.model.unknown(&mut self.state, node as usize, way) && self.is_new(node) {
                self.push(Taken {
                    operation: node,
                    way: Some(way),
                    mark,
                    ways_from,
                    refused,
                });
                return true;
            }
            self.model.undo(&mut self.state, mark);
        }
        false
    }

    fn is_new(&mut self, node: u32) -> bool {
        let taken = self.taken_hash ^ own_hash(node);
        self.seen.insert(taken ^ self.model.fingerprint(&self.state))
    }

    fn push(&mut self, taken: Taken) {
        let operation = taken.operation;
        self.taken_hash ^= own_hash(operation);
        if self.spans[operation as usize].ended.is_some() {
            self.by_begin.take(operation);
            self.by_end.take(operation);
            self.left -= 1;
            self.rank_left[self.rank[operation as usize] as usize] -= 1;
            while self.rank_now + 1 < self.rank_left.len() && self.rank_left[self.rank_now] == 0 {
                self.rank_now += 1;
            }
        } else {
            self.unheard.take(operation);
        }
        self.taken.push(taken);
    }

    /// Takes the last operation back. `Some(None)`: and took it again in another way.
    fn take_back(&mut self) -> Option<Option<(u32, bool)>> {
        let Taken {
            operation,
            mark,
            ways_from,
            refused,
            ..
        } = self.taken.pop()?;
        self.model.undo(&mut self.state, mark);
        self.taken_hash ^= own_hash(operation);
        if self.spans[operation as usize].ended.is_some() {
            self.by_begin.put_back(operation);
            self.by_end.put_back(operation);
            self.left += 1;
            let rank = self.rank[operation as usize] as usize;
            self.rank_left[rank] += 1;
            self.rank_now = self.rank_now.min(rank);
        } else {
            self.unheard.put_back(operation);
            if self.try_ways(operation, ways_from, refused) {
                return Some(None);
            }
        }
        Some(Some((operation, refused)))
    }
}

/// Each operation's share in the hash of those taken.
fn own_hash(node: u32) -> u128 {
    xxh3_128_with_seed(&node.to_le_bytes(), 0x7461_6b65)
}
