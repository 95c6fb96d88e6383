//! Which version of the machine each node can apply, as the nodes tell one another with their clocks.
//!
//! Builds of two versions serve one cluster while it is upgraded. What only the newer knows must not enter the log
//! before every member knows it, learners included: whoever cannot apply an entry has to stop. So a command that came
//! with a newer version than some member is known to have is refused at the door, by that member's name.
//!
//! What a node told last is believed while it is silent: a member that is down holds nothing up. Nor does it when
//! everybody started again since it was heard: what an applied entry has needed may go on entering, because whoever does
//! not know that much cannot come past that entry, nor become a member. For the rest, who has never been heard counts as
//! the first version. A node that went back to an older build is believed a second later; what
//! entered meanwhile it will not apply, it stops and says so. Nothing of this decides what is applied: the
//! batch says what it needs, and the machine refuses what it does not know.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use inventory_machine::codec::{MACHINE_VERSION, MACHINE_VERSION_FIRST};

use crate::types::NodeId;

/// What was told. Cheap to clone.
#[derive(Clone)]
pub struct MachineVersions {
    own: NodeId,
    told: Arc<Mutex<BTreeMap<NodeId, u16>>>,
}

/// A member that does not know what a command needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    /// Which.
    pub node_id: NodeId,
    /// The version that it told; `None`: it has not been heard.
    pub known: Option<u16>,
}

/// A version as the wire has it, where zero is a field that older builds do not send.
pub fn from_wire(version: u32) -> u16 {
    u16::try_from(version)
        .unwrap_or(u16::MAX)
        .max(MACHINE_VERSION_FIRST)
}

impl MachineVersions {
    /// This node knows its own.
    pub fn new(own: NodeId) -> Self {
        MachineVersions {
            own,
            told: Arc::new(Mutex::new(BTreeMap::from([(own, MACHINE_VERSION)]))),
        }
    }

    fn told(&self) -> MutexGuard<'_, BTreeMap<NodeId, u16>> {
        self.told.lock().expect("no code panics while holding it")
    }

    /// A node said what it knows.
    pub fn hear(&self, node_id: NodeId, version: u16) {
        let before = self.told().insert(node_id, version);
        if before != Some(version) {
            tracing::info!(node_id, version, ?before, "a node told its machine version");
        }
    }

    /// Forgets who is no member, so that no more is kept than there are members.
    pub fn retain(&self, members: &BTreeSet<NodeId>) {
        self.told()
            .retain(|node_id, _| *node_id == self.own || members.contains(node_id));
    }

    /// What a node said last; `None`: it has not been heard.
    pub fn of(&self, node_id: NodeId) -> Option<u16> {
        self.told().get(&node_id).copied()
    }

    /// Of these members, the one that knows least, if that is less than `needed`, and no applied entry has `entered` that
    /// needed as much.
    pub fn behind(
        &self,
        needed: u16,
        entered: u16,
        members: impl IntoIterator<Item = NodeId>,
    ) -> Option<Behind> {
        if needed <= entered {
            return None;
        }
        let told = self.told();
        let of = |node_id| Behind {
            node_id,
            known: told.get(&node_id).copied(),
        };
        let version = |behind: &Behind| behind.known.unwrap_or(MACHINE_VERSION_FIRST);
        members
            .into_iter()
            .map(of)
            .min_by_key(version)
            .filter(|least| version(least) < needed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_member_that_knows_least_is_named() {
        let versions = MachineVersions::new(1);
        versions.hear(1, 3);
        versions.hear(2, 3);
        versions.hear(3, 2);
        let behind = |needed, members: &[NodeId]| versions.behind(needed, 1, members.iter().copied());
        let named = |node_id, known| Some(Behind { node_id, known });
        assert_eq!(behind(2, &[1, 2, 3]), None);
        assert_eq!(behind(3, &[1, 2, 3]), named(3, Some(2)));
        // It counts who is a member, and nobody else.
        assert_eq!(behind(3, &[1, 2]), None);
        // Who was never heard counts as the first, and all know that.
        assert_eq!(behind(2, &[1, 2, 3, 4]), named(4, None));
        assert_eq!(behind(1, &[1, 2, 3, 4]), None);
        // What the log has needed before, it may need again, whoever is silent; what came later it may not.
        assert_eq!(versions.behind(2, 2, [1, 2, 3, 4]), None);
        assert_eq!(versions.behind(3, 2, [1, 2, 3, 4]), named(4, None));
        // The newest word counts, up or down.
        versions.hear(3, 3);
        assert_eq!(behind(3, &[1, 2, 3]), None);
        versions.hear(2, 1);
        assert_eq!(behind(3, &[1, 2, 3]), named(2, Some(1)));
        // Whose word was forgotten is a stranger again; a node never forgets its own.
        versions.retain(&BTreeSet::from([3]));
        assert_eq!(behind(3, &[1, 3]), None);
        assert_eq!(behind(3, &[1, 2, 3]), named(2, None));
    }

    #[test]
    fn a_build_that_tells_none_has_the_first() {
        assert_eq!(from_wire(0), MACHINE_VERSION_FIRST);
        assert_eq!(from_wire(7), 7);
        assert_eq!(from_wire(u32::MAX), u16::MAX);
    }
}
