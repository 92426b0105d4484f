//! Which program has which template: started, told to fork, found out, ended.

use std::io;
use std::os::fd::AsFd;

use manyhands_executor::process::{FromTemplate, ToTemplate};
use manyhands_proto::Time;
use manyhands_proto::task::Death;
use manyhands_worker_core::event::ExecutorId;

use super::hosted::Hosted;
use super::template::{self, Template};
use super::{Host, HostEvent, Program};

impl Host {
    /// The key of a program's template, which is started if it is not there.
    pub(super) fn template(&mut self, program: &Program) -> io::Result<u64> {
        if let Some(known) = self.templates.iter().find(|t| t.program.is(program)) {
            return Ok(known.key);
        }
        let key = self.next_template;
        self.templates.push(Template::spawn(program, &self.epoll, key)?);
        self.next_template += 1;
        Ok(key)
    }

    pub(super) fn by_key(templates: &mut [Template], key: u64) -> Option<&mut Template> {
        templates.iter_mut().find(|template| template.key == key)
    }

    /// Starts an executor. Answered by `Started` or `StartFailed`; it can be fed at once.
    pub fn start_executor(&mut self, id: ExecutorId, program: &Program) {
        let started = match self.template(program) {
            Ok(template) => self.fork(id, template).map_err(|error| error.to_string()),
            Err(error) => Err(program.explain(&error)),
        };
        if let Err(message) = started {
            let message = program.about(&message);
            self.early.push(HostEvent::StartFailed { id, message });
        }
    }

    fn fork(&mut self, id: ExecutorId, key: u64) -> io::Result<()> {
        let (hosted, inheritance) = Hosted::new(id, key)?;
        let waker = self.waker.clone();
        let worker = waker.as_fd().try_clone_to_owned()?;
        let inheritance = inheritance.into_iter().chain([worker]).collect();
        hosted.watch(&self.epoll)?;
        hosted.ring.set_sleeping(self.sleeping.get());
        let template = Self::by_key(&mut self.templates, key).expect("the caller has it");
        template.adopt(self.now);
        template.tell(ToTemplate::Fork { executor: id.0 }, inheritance);
        self.executors.insert(id.0, hosted);
        Ok(())
    }

    /// When [`Host::look_after`] has something to do.
    pub fn next_look(&self) -> Option<Time> {
        self.templates.iter().filter_map(Template::until).min()
    }

    /// Ends templates that have had nothing to do for long, and programs that turn out to be none.
    /// Called at [`Host::next_look`], or at any time.
    pub fn look_after(&mut self, now: Time) {
        self.now = now;
        let late = |template: &Template| template.until().is_some_and(|until| until <= now);
        while let Some(at) = self.templates.iter().position(late) {
            let mut template = self.templates.swap_remove(at);
            if !template.has_answered() {
                template.kill();
                let message = template.last_words(true);
                let mut events = std::mem::take(&mut self.early);
                self.fail_starts(&template, &message, &mut events);
                self.early = events;
            }
        }
    }

    /// Executors that wait for a template which never was one.
    fn fail_starts(&mut self, template: &Template, message: &str, out: &mut Vec<HostEvent>) {
        for executor in self.executors_of(template.key) {
            self.executors.remove(&executor);
            let message = template.program.about(message);
            out.push(HostEvent::StartFailed { id: ExecutorId(executor), message });
        }
    }

    fn executors_of(&self, template: u64) -> Vec<u32> {
        let all = self.executors.iter().filter(|(_, hosted)| hosted.template == template);
        let mut all: Vec<u32> = all.map(|(id, _)| *id).collect();
        all.sort_unstable();
        all
    }

    pub(super) fn poll_template(&mut self, key: u64, out: &mut Vec<HostEvent>) {
        let Some(template) = Self::by_key(&mut self.templates, key) else { return };
        let (messages, alive) = template.poll();
        messages.into_iter().for_each(|message| self.on_template(key, message, out));
        if !alive {
            self.on_template_died(key, out);
        }
    }

    /// Another program may claim what it likes: it is heard of its own executors alone.
    fn on_template(&mut self, key: u64, message: FromTemplate, out: &mut Vec<HostEvent>) {
        let (FromTemplate::Forked { executor, .. }
        | FromTemplate::ForkFailed { executor, .. }
        | FromTemplate::Died { executor, .. }) = message;
        if self.executors.get(&executor).is_none_or(|hosted| hosted.template != key) {
            return;
        }
        match message {
            FromTemplate::Forked { executor, pid } => {
                if let Some(hosted) = self.executors.get_mut(&executor) {
                    hosted.pid = Some(pid);
                }
            }
            FromTemplate::ForkFailed { executor, message } => {
                if self.executors.remove(&executor).is_some() {
                    self.bury(key);
                    out.push(HostEvent::StartFailed { id: ExecutorId(executor), message });
                }
            }
            FromTemplate::Died { executor, signal, exit_code, peak_memory } => {
                let stderr_tail = String::new();
                let death = Death { signal, exit_code, peak_memory, stderr_tail };
                self.on_died(executor, death, out);
            }
        }
    }

    pub(super) fn bury(&mut self, template: u64) {
        if let Some(template) = Self::by_key(&mut self.templates, template) {
            template.bury(self.now);
        }
    }

    /// The kernel has killed its executors, or is about to; what they started is killed here.
    fn on_template_died(&mut self, key: u64, out: &mut Vec<HostEvent>) {
        let Some(at) = self.templates.iter().position(|t| t.key == key) else { return };
        let mut template = self.templates.swap_remove(at);
        if !template.has_answered() {
            // What has closed its socket may still run.
            template.kill();
            let message = template.last_words(false);
            return self.fail_starts(&template, &message, out);
        }
        drop(template);
        for executor in self.executors_of(key) {
            if let Some(pid) = self.executors[&executor].pid {
                template::kill_group(pid);
            }
            let death = Death {
                signal: Some(rustix::process::Signal::KILL.as_raw()),
                exit_code: None,
                peak_memory: 0,
                stderr_tail: String::new(),
            };
            self.on_died(executor, death, out);
        }
    }
}
