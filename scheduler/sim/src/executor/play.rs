//! How a virtual executor plays a task: to its middle, what it does there, and to its end.

use super::*;

impl Executor {
    pub(super) fn first_half_done(&mut self, around: &mut Around) {
        let plan = Rc::clone(&around.world.plan);
        let no = self.top().no;
        let task = &plan.tasks[no];
        let count = |fate| around.world.record.count(no, fate);
        match task.ending {
            Ending::Crashes(first) if count(Fate::Died) < first => {
                return self.die(Fate::Died, around);
            }
            Ending::Errs(first) if count(Fate::Erred) < first => {
                return self.end_with_error(task, around);
            }
            _ if !task.pauses() => return self.finish(around),
            _ => {}
        }
        if task.stream.is_some() {
            return self.begin_stream(around);
        }
        match task.puts {
            Some(size) if is_inline(size) => {
                let object = plan.put_by(no);
                let value = encode_value(plan.value(object).unwrap_or(0), size);
                self.say_put(object, size, PutPlace::Inline(value.bytes), around.world);
                self.submit(around);
            }
            Some(size) => {
                let request = self.request(size, around.world);
                self.top().step = Step::Putting(request);
            }
            None => self.submit(around),
        }
    }

    /// Names a value that was put, and lets it go again: the name suffices to see it freed.
    pub(super) fn say_put(
        &mut self,
        object: ObjectId,
        size: u64,
        place: PutPlace,
        world: &mut World,
    ) {
        let meta = ObjectMeta { codec: Codec::RAW, size, contains: Vec::new() };
        self.say(FromClient::Put { object, meta, place }, world);
        self.say(FromClient::Release { objects: vec![object] }, world);
    }

    /// Submits the children and waits for them.
    pub(super) fn submit(&mut self, around: &mut Around) {
        let plan = Rc::clone(&around.world.plan);
        let no = self.top().no;
        let messages = nested::submission(&plan, no);
        if messages.is_empty() {
            return self.second_half(around.world);
        }
        for message in messages {
            self.say(message, around.world);
        }
        let waits_for = nested::results(&plan, no);
        self.say_blocked(waits_for.clone(), around.world);
        self.top().lent = true;
        self.top().step = Step::Waiting(waits_for);
        self.claim(around);
    }

    pub(super) fn second_half(&mut self, world: &mut World) {
        let us = world.plan.tasks[self.top().no].duration_us.div_ceil(2);
        let us = world.takes_us(self.worker, us);
        let number = self.top().number;
        self.top().step = Step::Second;
        world.after(us, Happening::Step(self.worker, self.id, number));
    }

    /// The scheduler tells a running task something.
    pub fn told(&mut self, task: TaskId, message: ToClient, around: &mut Around) {
        if let ToClient::Room { upto } = message {
            return self.has_room(task, upto, around);
        }
        let ToClient::Ended { ends } = message else { return };
        let plan = Rc::clone(&around.world.plan);
        let Some(frame) = self.stack.iter_mut().find(|frame| frame.run.task == task) else {
            return;
        };
        for (object, outcome) in ends {
            let Step::Waiting(left) = &mut frame.step else { continue };
            let before = left.len();
            left.retain(|&waited| waited != object);
            if left.len() == before {
                continue;
            }
            match outcome {
                Outcome::Value(value) if decode_value(&value) == plan.value(object) => {}
                Outcome::Value(_) => around.world.fail(format!("{task} got a wrong {object}")),
                Outcome::Stored { .. } => frame.to_read.push(object),
                Outcome::Failed(_) => frame.broken = true,
            }
        }
        self.go_on(around);
    }

    /// The top frame goes on if what it waited for is there.
    pub(super) fn go_on(&mut self, around: &mut Around) {
        self.go_on_with_items(around);
        let Some(frame) = self.stack.last_mut() else { return };
        if !matches!(&frame.step, Step::Waiting(left) if left.is_empty()) {
            return;
        }
        let (task, attempt) = (frame.run.task, frame.run.attempt);
        frame.step = Step::Reading(std::mem::take(&mut frame.to_read));
        around.world.tell(self.worker, 0, Event::Unblocked { executor: self.id, task, attempt });
        self.read_next(around);
    }

    pub(super) fn read_next(&mut self, around: &mut Around) {
        let (executor, task) = (self.id, self.top().run.task);
        let Step::Reading(left) = &self.top().step else { return };
        match left.last() {
            Some(&object) => {
                let event = Event::ReadRequested { executor, task, object };
                around.world.tell(self.worker, 0, event);
            }
            None => self.second_half(around.world),
        }
    }

    /// Answer to a wish to read.
    pub fn readable(
        &mut self,
        object: ObjectId,
        place: Result<Place, String>,
        around: &mut Around,
    ) {
        let Some(frame) = self.stack.last_mut() else { return };
        let Step::Reading(left) = &mut frame.step else { return };
        if left.last() != Some(&object) {
            return;
        }
        left.pop();
        match place {
            Ok(place) => {
                if let Place::Extent { extent, .. } = &place {
                    around.store.pin(*extent);
                    frame.pinned.push(*extent);
                }
                check_place(object, &place, around);
                self.read_next(around);
            }
            Err(_) => self.want_again(object, around.world),
        }
    }

    /// An object could not be read: whoever had it is gone. The task asks where it is now.
    fn want_again(&mut self, object: ObjectId, world: &mut World) {
        self.say(FromClient::Want { objects: vec![object] }, world);
        self.say_blocked(vec![object], world);
        let frame = self.top();
        if let Step::Reading(left) = &mut frame.step {
            frame.to_read = std::mem::take(left);
        }
        frame.step = Step::Waiting(vec![object]);
    }

    pub(super) fn say_blocked(&mut self, waits_for: Vec<ObjectId>, world: &mut World) {
        let (executor, task, attempt) = (self.id, self.top().run.task, self.top().run.attempt);
        world.tell(self.worker, 0, Event::Blocked { executor, task, attempt, waits_for });
    }

    /// Answer to a wish for an extent.
    pub fn granted(&mut self, request: u64, extent: Result<Extent, String>, around: &mut Around) {
        let Some(frame) = self.stack.last_mut() else {
            return self.give_back(extent, around);
        };
        match frame.step {
            Step::Putting(asked) if asked == request => {
                let Ok(extent) = extent else { return self.end_with_value_error(around) };
                self.put_into(extent, around);
            }
            Step::ItemRoom(asked) if asked == request => {
                let Ok(extent) = extent else { return self.end_with_value_error(around) };
                self.put_item_into(extent, around);
            }
            Step::Writing(asked) if asked == request => {
                let Ok(extent) = extent else { return self.end_with_value_error(around) };
                frame.granted.push(extent);
                self.write(extent, around);
                self.finish(around);
            }
            _ => self.give_back(extent, around),
        }
    }

    pub(super) fn give_back(&mut self, extent: Result<Extent, String>, around: &mut Around) {
        if let Ok(extent) = extent {
            let dropped = around.store.drop_extent(extent);
            around.world.check("an extent that nobody waits for", dropped);
        }
    }

    pub(super) fn put_into(&mut self, extent: Extent, around: &mut Around) {
        let plan = Rc::clone(&around.world.plan);
        let no = self.top().no;
        let object = plan.put_by(no);
        let wrote = around.store.write(extent, plan.value(object).unwrap_or(0));
        around.world.check("put", wrote);
        let published = around.store.publish(object, extent);
        around.world.check("put", published);
        let meta = ObjectMeta { codec: Codec::RAW, size: extent.len, contains: Vec::new() };
        let event = Event::Stored { object, meta, extent: Some(extent), executor: self.id };
        around.world.tell(self.worker, 0, event);
        let place = PutPlace::Stored(WorkerId(self.worker as u32));
        self.say_put(object, extent.len, place, around.world);
        self.submit(around);
    }

    /// Makes the values that are still to be made; asks for room where it must.
    pub(super) fn finish(&mut self, around: &mut Around) {
        let plan = Rc::clone(&around.world.plan);
        let task = &plan.tasks[self.top().no];
        if self.top().broken {
            return self.end_with_error(task, around);
        }
        while let Some(&size) = task.outputs.get(self.top().returned.len()) {
            let index = self.top().returned.len() as u32;
            let hash = plan.value(task.id.object(index)).unwrap_or(0);
            if is_inline(size) {
                let bytes = ReturnedBytes::Inline(encode_value(hash, size).bytes);
                self.return_value(&plan, bytes);
            } else {
                let request = self.request(size, around.world);
                self.top().step = Step::Writing(request);
                return;
            }
        }
        let released = nested::results_to_release(&plan, self.top().no);
        if !released.is_empty() && around.world.rng.chance(50_000) {
            self.say(FromClient::Release { objects: released }, around.world);
        }
        let values = std::mem::take(&mut self.top().returned);
        self.end(Ok(values), Fate::Well, around);
    }

    /// Writes the next value into an extent.
    pub(super) fn write(&mut self, extent: Extent, around: &mut Around) {
        let plan = Rc::clone(&around.world.plan);
        let task = &plan.tasks[self.top().no];
        let index = self.top().returned.len();
        let used = Extent { len: task.outputs[index], ..extent };
        let hash = plan.value(task.id.object(index as u32)).unwrap_or(0);
        let wrote = around.store.write(used, hash);
        around.world.check(&task.id.to_string(), wrote);
        self.return_value(&plan, ReturnedBytes::Extent(used));
    }

    pub(super) fn return_value(&mut self, plan: &Plan, bytes: ReturnedBytes) {
        let first = self.top().returned.is_empty();
        let contains = if first { nested::handed_over(plan, self.top().no) } else { Vec::new() };
        self.top().returned.push(Returned { codec: Codec::RAW, bytes, contains });
    }

    pub(super) fn request(&mut self, size: u64, world: &mut World) -> u64 {
        let request = self.requests;
        self.requests += 1;
        let (executor, task) = (self.id, self.top().run.task);
        world.tell(self.worker, 0, Event::AllocRequested { executor, request, task, size });
        request
    }

    pub(super) fn end_with_error(&mut self, task: &TaskPlan, around: &mut Around) {
        let message = format!("{} went wrong", task.id);
        let kind = if task.id.seq.is_multiple_of(2) {
            FailureKind::Error { message }
        } else {
            FailureKind::Panicked { message, backtrace: String::new() }
        };
        self.end(Err(kind), Fate::Erred, around);
    }

    pub(super) fn end_with_value_error(&mut self, around: &mut Around) {
        let kind = FailureKind::Value { message: "no room for the value".to_owned() };
        self.end(Err(kind), Fate::Erred, around);
    }
}
