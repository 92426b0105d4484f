//! What is known of Python objects: by their identity, while they live.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;
use rustc_hash::FxHashMap;

/// A table of objects. A clone is the same table.
pub(crate) struct Watched<V>(Arc<Mutex<Table<V>>>);

type Table<V> = FxHashMap<usize, Entry<V>>;

struct Entry<V> {
    value: V,
    /// Weak reference to the object, whose end takes this entry away; or an object without end.
    _watch: Py<PyAny>,
}

impl<V> Clone for Watched<V> {
    fn clone(&self) -> Watched<V> {
        Watched(self.0.clone())
    }
}

impl<V> Default for Watched<V> {
    fn default() -> Watched<V> {
        Watched(Arc::default())
    }
}

impl<V: Clone + Send + 'static> Watched<V> {
    /// What is known of an object.
    pub(crate) fn get(&self, object: &Bound<'_, PyAny>) -> Option<V> {
        lock(&self.0).get(&identity(object)).map(|entry| entry.value.clone())
    }

    /// Keeps a value for an object until that is no more. For one that cannot be watched it is not
    /// kept: another object could get its identity.
    pub(crate) fn keep(&self, object: &Bound<'_, PyAny>, value: V) -> PyResult<()> {
        static WEAK_REFERENCE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let weak_reference = WEAK_REFERENCE.import(object.py(), "weakref", "ref")?;
        let (table, id) = (Arc::downgrade(&self.0), identity(object));
        let forget = move || {
            let entry = table.upgrade().and_then(|table| lock(&table).remove(&id));
            // Outside of the lock: what goes here may run Python code.
            drop(entry);
        };
        let watch = match weak_reference.call1((object, Forget(Box::new(forget)))) {
            Ok(watch) => watch,
            Err(_) if is_built_in(object)? => object.clone(),
            Err(_) => return Ok(()),
        };
        let replaced = lock(&self.0).insert(id, Entry { value, _watch: watch.unbind() });
        drop(replaced);
        Ok(())
    }
}

fn lock<V>(table: &Mutex<Table<V>>) -> MutexGuard<'_, Table<V>> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

fn identity(object: &Bound<'_, PyAny>) -> usize {
    object.as_ptr() as usize
}

/// Whether it is a method of a built-in type, as `str.upper` is: those are there for ever.
fn is_built_in(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let name = object.get_type().qualname()?;
    Ok(["method_descriptor", "wrapper_descriptor"].iter().any(|built_in| name == *built_in))
}

/// Takes an entry away when its object is no more.
#[pyclass(frozen)]
struct Forget(Box<dyn Fn() + Send + Sync>);

#[pymethods]
impl Forget {
    #[pyo3(signature = (*_watch))]
    fn __call__(&self, _watch: &Bound<'_, PyTuple>) {
        (self.0)();
    }
}
