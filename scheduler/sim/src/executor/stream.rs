//! How a virtual executor plays a task that makes a stream: item after item, as far as there is
//! room.

use super::*;

impl Executor {
    /// The task begins its stream: it asks how much room it has.
    pub(super) fn begin_stream(&mut self, around: &mut Around) {
        self.say(FromClient::Stream, around.world);
        self.wait_for_item(around.world);
    }

    /// The next item takes its time.
    fn wait_for_item(&mut self, world: &mut World) {
        let us = world.plan.tasks[self.top().no].item_us();
        let us = world.takes_us(self.worker, us);
        let number = self.top().number;
        self.top().step = Step::Item;
        world.after(us, Happening::Step(self.worker, self.id, number));
    }

    /// An item is ready. It is put if there is room, and else the task waits for that.
    pub(super) fn item_ready(&mut self, around: &mut Around) {
        let plan = Rc::clone(&around.world.plan);
        let Some(stream) = plan.tasks[self.top().no].stream else { return };
        let (next, room) = (self.top().items, self.top().room);
        if next == stream.items {
            return self.finish(around);
        }
        if next >= room {
            self.say_blocked(Vec::new(), around.world);
            self.top().lent = true;
            self.top().step = Step::Room;
            return self.claim(around);
        }
        if is_inline(stream.size) {
            let object = self.top().run.task.item(next);
            let value = encode_value(plan.value(object).unwrap_or(0), stream.size);
            let size = value.bytes.len() as u64;
            self.put_item(size, PutPlace::Inline(value.bytes), around.world);
        } else {
            let request = self.request(stream.size, around.world);
            self.top().step = Step::ItemRoom(request);
        }
    }

    fn put_item(&mut self, size: u64, place: PutPlace, world: &mut World) {
        let object = self.top().run.task.item(self.top().items);
        let meta = ObjectMeta { codec: Codec::RAW, size, contains: Vec::new() };
        self.say(FromClient::Put { object, meta, place }, world);
        self.top().items += 1;
        self.wait_for_item(world);
    }

    /// A large item has its extent.
    pub(super) fn put_item_into(&mut self, extent: Extent, around: &mut Around) {
        let object = self.top().run.task.item(self.top().items);
        let hash = around.world.plan.value(object).unwrap_or(0);
        let done = around.store.write(extent, hash);
        around.world.check("an item", done);
        let done = around.store.publish(object, extent);
        around.world.check("an item", done);
        let meta = ObjectMeta { codec: Codec::RAW, size: extent.len, contains: Vec::new() };
        let event = Event::Stored { object, meta, extent: Some(extent), executor: self.id };
        around.world.tell(self.worker, 0, event);
        let place = PutPlace::Stored(WorkerId(self.worker as u32));
        self.put_item(extent.len, place, around.world);
    }

    /// There is more room.
    pub(super) fn has_room(&mut self, task: TaskId, upto: u64, around: &mut Around) {
        if let Some(frame) = self.stack.iter_mut().find(|frame| frame.run.task == task) {
            frame.room = frame.room.max(upto);
        }
        self.go_on_with_items(around);
    }

    /// The top frame goes on with its stream if it waited for room, and there is some.
    pub(super) fn go_on_with_items(&mut self, around: &mut Around) {
        let Some(frame) = self.stack.last() else { return };
        if frame.step == Step::Room && frame.items < frame.room {
            let (task, attempt) = (frame.run.task, frame.run.attempt);
            let event = Event::Unblocked { executor: self.id, task, attempt };
            around.world.tell(self.worker, 0, event);
            self.item_ready(around);
        }
    }
}
