//! What nodes say about who leads, and whom to believe.
//!
//! A leader that was cut off goes on believing in itself, so no node's word is enough: the highest term
//! wins, and the question is settled once a majority agrees.

use std::collections::HashSet;

use proto::v1::StatusResponse;

use crate::channel::endpoint;

/// What nodes say about who leads.
#[derive(Default)]
pub(crate) struct Votes {
    /// Highest term anybody knows a leader of, and that leader's endpoint.
    best: Option<(u64, String)>,
    /// Who agrees, by node id.
    agreed: HashSet<u64>,
    /// Members there are, as those who agree say.
    members: usize,
    answers: usize,
}

impl Votes {
    pub(crate) fn add(&mut self, status: &StatusResponse, address: &str) {
        self.answers += 1;
        let named = match status.role.as_str() {
            // It may be known here by another name than the one it goes by.
            "leader" if endpoint(&status.leader_endpoint).is_err() => address,
            _ => status.leader_endpoint.as_str(),
        };
        if endpoint(named).is_err() {
            return;
        }
        match &self.best {
            Some((term, _)) if *term > status.term => return,
            Some((term, leader)) if *term == status.term && leader == named => {}
            _ => {
                self.best = Some((status.term, named.to_string()));
                self.agreed.clear();
            }
        }
        self.agreed.insert(status.node_id);
        self.members = self
            .members
            .max(status.members.iter().filter(|member| member.voter).count());
    }

    /// A majority agrees: nobody left to ask can know of a newer leader that is of use.
    pub(crate) fn is_clear(&self) -> bool {
        self.agreed.len() > self.members / 2
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.answers == 0
    }

    pub(crate) fn leader(self) -> Option<String> {
        self.best.map(|(_, leader)| leader)
    }
}

#[cfg(test)]
mod tests {
    use proto::v1::Member;

    use super::*;

    fn says(node_id: u64, role: &str, term: u64, leader: &str) -> StatusResponse {
        let voter = |node_id| Member {
            node_id,
            endpoint: format!("n{node_id}:1"),
            voter: true,
            ..Member::default()
        };
        StatusResponse {
            node_id,
            role: role.into(),
            term,
            leader_endpoint: leader.into(),
            members: (1..=3).map(voter).collect(),
            ..StatusResponse::default()
        }
    }

    #[test]
    fn a_leader_that_was_cut_off_is_outvoted() {
        let mut votes = Votes::default();
        votes.add(&says(1, "leader", 4, "n1:1"), "n1:1");
        assert!(!votes.is_clear(), "one of three is no majority");
        votes.add(&says(2, "follower", 5, "n3:1"), "n2:1");
        assert!(!votes.is_clear());
        votes.add(&says(3, "leader", 5, "n3:1"), "n3:1");
        assert!(votes.is_clear());
        assert_eq!(votes.leader().as_deref(), Some("n3:1"));
    }

    #[test]
    fn a_node_asked_under_two_names_has_one_vote() {
        let mut votes = Votes::default();
        votes.add(&says(1, "leader", 4, "n1:1"), "n1:1");
        votes.add(&says(1, "leader", 4, "n1:1"), "localhost:1");
        assert!(!votes.is_clear());
    }

    #[test]
    fn nodes_that_know_no_leader_name_none() {
        let mut votes = Votes::default();
        votes.add(&says(1, "candidate", 9, ""), "n1:1");
        assert!(!votes.is_clear());
        assert_eq!(votes.leader(), None);
    }
}
