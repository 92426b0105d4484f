//! From a task's id to its record: per lane a table indexed by sequence number, so that no id is
//! hashed on the hot path.

use std::collections::VecDeque;

use manyhands_proto::{JobId, Lane, TaskId};
use rustc_hash::FxHashMap;

use crate::slab::{JobIdx, LaneIdx, Slab, TaskIdx};

const PAGE: u64 = 64;

/// Pages between the lowest and the highest sequence number of a lane that are in use. Honest
/// clients number without gaps.
const SPAN_LIMIT: u64 = 1 << 20;

struct Page {
    live: u32,
    tasks: [TaskIdx; PAGE as usize],
}

/// The tasks of one lane.
pub(crate) struct LaneTable {
    pub(crate) job: JobIdx,
    pub(crate) job_id: JobId,
    pub(crate) lane: Lane,
    first_page: u64,
    pages: VecDeque<Option<Box<Page>>>,
    live: usize,
}

/// All lanes that have tasks.
#[derive(Default)]
pub(crate) struct Lanes {
    ids: FxHashMap<(JobId, Lane), LaneIdx>,
    tables: Slab<LaneIdx, LaneTable>,
    /// The lane asked for last: ids come in runs of one lane.
    last: Option<(JobId, Lane, LaneIdx)>,
}

impl Lanes {
    #[inline]
    pub(crate) fn find(&mut self, job: JobId, lane: Lane) -> Option<LaneIdx> {
        if let Some((last_job, last_lane, index)) = self.last
            && (last_job, last_lane) == (job, lane)
        {
            return Some(index);
        }
        let index = *self.ids.get(&(job, lane))?;
        self.last = Some((job, lane, index));
        Some(index)
    }

    pub(crate) fn find_or_make(&mut self, job: JobIdx, job_id: JobId, lane: Lane) -> LaneIdx {
        if let Some(index) = self.find(job_id, lane) {
            return index;
        }
        let pages = VecDeque::new();
        let table = LaneTable { job, job_id, lane, first_page: 0, pages, live: 0 };
        let index = self.tables.insert(table);
        self.ids.insert((job_id, lane), index);
        index
    }

    #[inline]
    pub(crate) fn table(&self, lane: LaneIdx) -> &LaneTable {
        &self.tables[lane]
    }

    /// Whether the lane's table may grow to hold this number.
    pub(crate) fn can_hold(&self, lane: LaneIdx, seq: u64) -> bool {
        let table = &self.tables[lane];
        let page = seq / PAGE;
        table.pages.is_empty()
            || page.max(table.first_page + table.pages.len() as u64) - page.min(table.first_page)
                < SPAN_LIMIT
    }

    #[inline]
    pub(crate) fn get(&self, lane: LaneIdx, seq: u64) -> Option<TaskIdx> {
        let table = &self.tables[lane];
        let page = (seq / PAGE).checked_sub(table.first_page)?;
        let page = table.pages.get(usize::try_from(page).ok()?)?.as_ref()?;
        let task = page.tasks[(seq % PAGE) as usize];
        (task != TaskIdx::NONE).then_some(task)
    }

    pub(crate) fn task(&mut self, id: TaskId) -> Option<TaskIdx> {
        let lane = self.find(id.job, id.lane)?;
        self.get(lane, id.seq)
    }

    /// The tasks of a lane that are known, in order.
    pub(crate) fn tasks_of(&self, job: JobId, lane: Lane) -> impl Iterator<Item = TaskIdx> {
        let lane = self.ids.get(&(job, lane)).map(|lane| &self.tables[*lane]);
        let pages = lane.into_iter().flat_map(|lane| &lane.pages).flatten();
        pages.flat_map(|page| page.tasks.iter().copied()).filter(|task| *task != TaskIdx::NONE)
    }

    /// Enters a task whose number [`Lanes::can_hold`] has allowed and which is not there yet.
    pub(crate) fn set(&mut self, lane: LaneIdx, seq: u64, task: TaskIdx) {
        let table = &mut self.tables[lane];
        let page = seq / PAGE;
        if table.pages.is_empty() {
            table.first_page = page;
        }
        while page < table.first_page {
            table.pages.push_front(None);
            table.first_page -= 1;
        }
        let at = (page - table.first_page) as usize;
        while table.pages.len() <= at {
            table.pages.push_back(None);
        }
        let page = table.pages[at].get_or_insert_with(|| {
            Box::new(Page { live: 0, tasks: [TaskIdx::NONE; PAGE as usize] })
        });
        let slot = &mut page.tasks[(seq % PAGE) as usize];
        debug_assert_eq!(*slot, TaskIdx::NONE, "a task is entered once");
        *slot = task;
        page.live += 1;
        table.live += 1;
    }

    /// Strikes a task out. `true` when the lane is gone with it.
    pub(crate) fn clear(&mut self, lane: LaneIdx, seq: u64) -> bool {
        let table = &mut self.tables[lane];
        let at = (seq / PAGE - table.first_page) as usize;
        let page = table.pages[at].as_mut().expect("the page of a live task");
        page.tasks[(seq % PAGE) as usize] = TaskIdx::NONE;
        page.live -= 1;
        table.live -= 1;
        if page.live == 0 {
            table.pages[at] = None;
            while let Some(None) = table.pages.front() {
                table.pages.pop_front();
                table.first_page += 1;
            }
            while let Some(None) = table.pages.back() {
                table.pages.pop_back();
            }
        }
        self.drop_if_empty(lane)
    }

    /// Forgets a lane that has no tasks. `true` when it had none.
    pub(crate) fn drop_if_empty(&mut self, lane: LaneIdx) -> bool {
        let empty = self.tables[lane].live == 0;
        if empty {
            let table = self.tables.remove(lane);
            self.ids.remove(&(table.job_id, table.lane));
            self.last = None;
        }
        empty
    }
}
