//! Fair shares of a lane: of its room at the door, and of its turns at the exit.
//!
//! What is shared by is the [`Source`] of a frame. It is found once a frame, never once a claim.
//!
//! - **Room.** A source may have [`QUEUE_SHARE_OF_FREE`] times as many commands waiting as there is room
//!   left: the dynamic threshold of shared-memory switches (Choudhury and Hahne, 1998). Alone it gets 8/9
//!   of the lane, two get 8/17 each, and so on without anybody counting; a little is always left for who
//!   comes new. Who has nothing waiting gets in while there is any room at all.
//! - **Turns.** Sources are served round robin, [`TURN_COMMANDS`] at a time, each first come, first served.
//!   So one command waits for at most one turn of every other source, however much that has waiting.
//!
//! Left out: weights. Nobody has asked to be more equal than others.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
};

use inventory_machine::command::Body;

use super::{
    FrameId,
    frame::{Frame, PreparedBody, PreparedCommand},
};
use crate::limits::{QUEUE_COMMANDS_MAX, QUEUE_SHARE_OF_FREE, TURN_COMMANDS};

/// Whom a frame counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// Claims that all name one principal who is not their user: a platform, through whichever connections.
    Principal(u128),
    /// Everything else counts for its connection. Shoppers are principals of their own, and an API node's
    /// frames hold many of them: there the door in front of the node has seen to fairness between them.
    Peer(SocketAddr),
}

impl Source {
    pub fn of(frame: &Frame, peer: SocketAddr) -> Source {
        let principal = frame.commands[0].principal;
        // A shopper's claim ends this at the first command.
        let named = |command: &PreparedCommand| match &command.body {
            PreparedBody::Plain(Body::Claim(take) | Body::Decrement(take)) => {
                command.principal == principal && take.user != principal
            }
            _ => false,
        };
        if frame.commands.iter().all(named) {
            Source::Principal(principal)
        } else {
            Source::Peer(peer)
        }
    }
}

/// A source that has commands waiting; free to be another's once it has none.
pub(super) type SourceId = usize;

struct Standing {
    source: Source,
    waiting: usize,
}

/// The room of one lane, as the door sees it.
#[derive(Default)]
pub(super) struct Room {
    /// Commands of all sources.
    waiting: usize,
    ids: HashMap<Source, SourceId>,
    standings: slab::Slab<Standing>,
}

impl Room {
    /// Commands that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Takes room for commands of a source; `None` when it has had its share.
    pub fn enter(&mut self, source: Source, count: usize) -> Option<SourceId> {
        let known = self.ids.get(&source).copied();
        let own = known.map_or(0, |id| self.standings[id].waiting);
        let free = QUEUE_COMMANDS_MAX - self.waiting;
        if count > free || (own > 0 && own + count > QUEUE_SHARE_OF_FREE * free) {
            return None;
        }
        self.waiting += count;
        let id = known.unwrap_or_else(|| {
            let id = self.standings.insert(Standing { source, waiting: 0 });
            self.ids.insert(source, id);
            id
        });
        self.standings[id].waiting += count;
        Some(id)
    }

    /// Commands of a source have left.
    pub fn leave(&mut self, id: SourceId, count: usize) {
        self.waiting -= count;
        let standing = &mut self.standings[id];
        standing.waiting -= count;
        if standing.waiting == 0 {
            let Standing { source, .. } = self.standings.remove(id);
            self.ids.remove(&source);
        }
    }
}

/// Whose turn it is in one lane.
#[derive(Default)]
pub(super) struct Turns {
    /// Frames of every source, by its id.
    queues: Vec<VecDeque<FrameId>>,
    /// The sources that have frames here, in the order of their turns.
    ring: VecDeque<SourceId>,
    /// Commands that the first source has had in this turn.
    taken: usize,
}

impl Turns {
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// A frame comes to stand behind those of its source.
    pub fn push(&mut self, source: SourceId, frame: FrameId) {
        if self.queues.len() <= source {
            self.queues.resize_with(source + 1, VecDeque::new);
        }
        let queue = &mut self.queues[source];
        if queue.is_empty() {
            self.ring.push_back(source);
        }
        queue.push_back(frame);
    }

    /// The frame to be served, and how many of its commands at most.
    pub fn next(&self) -> Option<(FrameId, usize)> {
        let source = *self.ring.front()?;
        // Who is alone is served without end.
        let left = if self.ring.len() == 1 {
            usize::MAX
        } else {
            TURN_COMMANDS - self.taken
        };
        Some((self.queues[source][0], left))
    }

    /// The frame to be served had so many commands served, perhaps its last.
    pub fn served(&mut self, count: usize, was_last: bool) {
        let source = self.ring[0];
        let queue = &mut self.queues[source];
        if was_last {
            queue.pop_front();
        }
        self.taken += count;
        if queue.is_empty() {
            // The next of this id is another source: a rush's memory is not for it to keep.
            queue.shrink_to(KEPT_FRAMES);
            self.ring.pop_front();
            self.taken = 0;
        } else if self.taken >= TURN_COMMANDS {
            self.ring.rotate_left(1);
            self.taken = 0;
        }
    }

    /// Takes any frame out, in order of turns.
    pub fn pop(&mut self) -> Option<FrameId> {
        let (frame, _) = self.next()?;
        self.served(0, true);
        Some(frame)
    }
}

/// Frames that a queue keeps memory for when it is empty: what a stream may have running.
const KEPT_FRAMES: usize = crate::limits::STREAM_FRAMES_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: u16) -> Source {
        Source::Peer(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    #[test]
    fn one_alone_gets_nearly_all_and_always_leaves_room_for_a_newcomer() {
        let mut room = Room::default();
        let mut greedy = 0;
        while room.enter(peer(1), 1).is_some() {
            greedy += 1;
        }
        assert!(greedy >= QUEUE_COMMANDS_MAX * 8 / 9, "{greedy} of one alone");
        room.enter(peer(2), 512).expect("a newcomer gets in");
        assert!(room.enter(peer(1), 1).is_none(), "the greedy one still does not");
    }

    #[test]
    fn shares_even_out_whoever_came_first() {
        let mut room = Room::default();
        while room.enter(peer(1), 512).is_some() {}
        let greedy = room.ids[&peer(1)];
        // The lane is served in turns; both ask for more all the time, the greedy one first.
        for _ in 0..1_000 {
            let ids: Vec<SourceId> = room.ids.values().copied().collect();
            for id in ids {
                let served = room.standings[id].waiting.min(512);
                room.leave(id, served);
            }
            while room.enter(peer(1), 512).is_some() {}
            while room.enter(peer(2), 512).is_some() {}
        }
        let (one, other) = (
            room.standings[greedy].waiting,
            room.standings[room.ids[&peer(2)]].waiting,
        );
        assert!(
            one.abs_diff(other) <= QUEUE_COMMANDS_MAX / 16,
            "{one} and {other}"
        );
        assert!(one + other > QUEUE_COMMANDS_MAX * 8 / 10, "{one} and {other}");
    }

    #[test]
    fn a_full_lane_takes_nothing_and_an_empty_one_remembers_nobody() {
        let mut room = Room::default();
        let mut entered = Vec::new();
        for port in 1.. {
            let Some(id) = room.enter(peer(port), 4_096) else {
                break;
            };
            entered.push(id);
        }
        assert_eq!(room.waiting(), QUEUE_COMMANDS_MAX);
        assert_eq!(entered.len(), QUEUE_COMMANDS_MAX / 4_096);
        for id in entered {
            room.leave(id, 4_096);
        }
        assert_eq!(room.waiting(), 0);
        assert!(room.ids.is_empty() && room.standings.is_empty());
    }

    /// Serves entries of 512 commands; gives which frames had commands in each.
    fn serve(turns: &mut Turns, sizes: &mut [usize], entries: usize) -> Vec<Vec<FrameId>> {
        let mut served = Vec::new();
        for _ in 0..entries {
            let (mut entry, mut room) = (Vec::new(), 512);
            while room > 0
                && let Some((frame, turn)) = turns.next()
            {
                let count = sizes[frame].min(turn).min(room);
                sizes[frame] -= count;
                room -= count;
                turns.served(count, sizes[frame] == 0);
                entry.push(frame);
            }
            served.push(entry);
        }
        served
    }

    #[test]
    fn a_single_claim_waits_for_one_turn_not_for_the_queue_before_it() {
        let mut turns = Turns::default();
        let mut sizes = vec![512; 200];
        for frame in 0..200 {
            turns.push(0, frame);
        }
        serve(&mut turns, &mut sizes, 3);
        sizes.push(1);
        turns.push(1, 200);
        let served = serve(&mut turns, &mut sizes, 2);
        assert!(served.concat().contains(&200), "{served:?}");
    }

    #[test]
    fn sources_take_turns_and_each_keeps_its_order() {
        let mut turns = Turns::default();
        let mut sizes = vec![512, 512, 512, 100, 100, 100];
        for (source, frame) in [(0, 0), (0, 1), (0, 2), (1, 3), (1, 4), (1, 5)] {
            turns.push(source, frame);
        }
        let order = serve(&mut turns, &mut sizes, 8).concat();
        let (big, small): (Vec<usize>, Vec<usize>) = order.iter().copied().partition(|frame| *frame < 3);
        assert!(
            big.is_sorted() && small.is_sorted(),
            "first come, first served within a source: {order:?}"
        );
        assert_eq!(order[1..4], [3, 4, 5], "after one turn, the other's: {order:?}");
        assert!(sizes.iter().all(|left| *left == 0), "all are served: {sizes:?}");
        assert!(turns.is_empty());
    }

    #[test]
    fn who_was_alone_yields_as_soon_as_another_comes() {
        let mut turns = Turns::default();
        let mut sizes = vec![100_000, 1];
        turns.push(0, 0);
        // Alone, and in the middle of a turn by any count.
        assert_eq!(turns.next(), Some((0, usize::MAX)));
        turns.served(300, false);
        turns.push(1, 1);
        assert_eq!(turns.next(), Some((0, TURN_COMMANDS - 300)));
        sizes[0] -= 300;
        assert!(serve(&mut turns, &mut sizes, 1).concat().contains(&1));
    }
}
