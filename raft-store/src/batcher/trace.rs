//! What those see of an entry who follow one of its commands.
//!
//! A command's own span, from its frame's arrival to its answer, is in the trace of its caller. Entries carry the
//! commands of many callers, so the spans of an entry (`batch`, in it `log entry`, in that `apply`) belong to
//! the trace of the first command in it that is followed; `batch` is linked with the others' spans, and they with
//! it. Every followed command's span says at which log index it stands.
//!
//! An entry that nobody follows has none of this: its commands are not looked at again.

use spans::{Kind, Span};

use super::{
    Fate, Slice,
    frame::{Followed, Waiting},
};

/// The spans of one entry; they end where this is dropped.
pub(super) struct EntryTrace {
    // In the order in which they end.
    entry: Span,
    batch: Span,
}

type Frames = slab::Slab<Waiting>;

impl EntryTrace {
    /// Begins them, if a command in these slices is followed.
    pub fn begin(slices: &[Slice], frames: &mut Frames, commands: usize) -> Option<EntryTrace> {
        let mut batch = Span::default();
        for_each_followed(slices, frames, |followed| {
            let Some(own) = followed.span.context() else {
                return;
            };
            match batch.context() {
                None => batch = Span::below(own, Kind::Internal, "batch"),
                Some(step) => {
                    batch.link(own);
                    followed.span.link(step);
                }
            }
        });
        let step = batch.context()?;
        batch.set("holdfast.batch.commands", commands as u64);
        let entry = Span::below(step, Kind::Internal, "log entry");
        Some(EntryTrace { entry, batch })
    }

    /// Ends them: this is what became of the entry.
    pub fn land(mut self, fate: &Fate, slices: &[Slice], frames: &mut Frames) {
        match fate {
            Fate::Applied(log_id, reply) => {
                self.entry.set("raft.log_index", log_id.index);
                self.entry.set("raft.term", log_id.committed_leader_id().term);
                if let (Some(applying), Some(step)) = (reply.applying, self.entry.context()) {
                    let mut apply = Span::past(step, "apply", applying.began, applying.took);
                    apply.set("raft.log_index", log_id.index);
                }
                for_each_followed(slices, frames, |followed| {
                    followed.span.set("raft.log_index", log_id.index);
                });
            }
            Fate::Refused(why) => {
                self.entry.fail(why);
                self.batch.fail(why);
                for_each_followed(slices, frames, |followed| followed.span.fail(why));
            }
            Fate::Unknown => {
                let why = "it was proposed, and may yet apply";
                self.entry.fail(why);
                self.batch.fail(why);
                for_each_followed(slices, frames, |followed| followed.span.fail(why));
            }
        }
    }
}

fn for_each_followed(slices: &[Slice], frames: &mut Frames, mut each: impl FnMut(&mut Followed)) {
    for Slice { frame, first, count } in slices {
        let places = *first..*first + *count;
        let followed = frames[*frame].frame.followed.iter_mut();
        followed
            .filter(|followed| places.contains(&followed.place))
            .for_each(&mut each);
    }
}
