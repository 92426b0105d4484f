//! The attributes of manyhands. `manyhands` exports them; use them from there.
//!
//! This crate promises that a function stays as it was written, and that what cannot be a task is
//! refused in words, at the place in the source.
//!
//! # Layout
//! - this file: the attribute `task`, its arguments, and what it refuses.
//! - `expand`: the code that it adds.

mod expand;

use proc_macro::TokenStream;
use syn::spanned::Spanned;
use syn::{Error, FnArg, ItemFn, Pat, Type};

/// Lets a function run as a task.
///
/// The function stays as it is: `f(x)` calls it here and now. Beside it comes a type of its name with
///
/// - `f::lazy(x)`: a typed node of a graph, which runs nothing;
/// - `f::submit(&client, x)`: submits the call at once and gives a typed handle.
///
/// Their arguments are values of the parameters' types, or results of other tasks that have them
/// (`manyhands::IntoArg` lists what goes). Parameters and the return value must be owned types that
/// serde can write and read.
///
/// A function that returns a `Result` (by whatever path; an alias must be named `Result` too) fails
/// its task with `Err`, whose type needs `Display`; its results are of the type in `Ok`.
///
/// # Several results
/// `#[task(outputs)]` on a function that returns a tuple gives a node or handle for each of its
/// elements. `#[task(parts)]` on one that returns a `Vec` gives one for each element, as many as the
/// caller says: `f::lazy(x).parts(n)`, `f::submit(&client, n, x)`.
#[proc_macro_attribute]
pub fn task(args: TokenStream, item: TokenStream) -> TokenStream {
    let original = proc_macro2::TokenStream::from(item.clone());
    let parsed = syn::parse(args).and_then(|shape| Ok((shape, syn::parse::<ItemFn>(item)?)));
    let expanded = parsed.and_then(|(shape, function)| {
        refuse(&function)?;
        expand::task(shape, &function)
    });
    match expanded {
        Ok(added) => quote::quote!(#original #added).into(),
        Err(error) => {
            // The function stays, so that its callers are not reported as well.
            let error = error.to_compile_error();
            quote::quote!(#original #error).into()
        }
    }
}

/// What a task gives.
pub(crate) enum Shape {
    One,
    Outputs,
    Parts,
}

impl syn::parse::Parse for Shape {
    fn parse(input: syn::parse::ParseStream<'_>) -> syn::Result<Shape> {
        if input.is_empty() {
            return Ok(Shape::One);
        }
        let word: syn::Ident = input.parse()?;
        match word.to_string().as_str() {
            "outputs" => Ok(Shape::Outputs),
            "parts" => Ok(Shape::Parts),
            other => Err(Error::new(
                word.span(),
                format!(
                    "`{other}` is none of the forms of a task: write `#[task]`, \
                     `#[task(outputs)]` for a tuple of several objects, or `#[task(parts)]` for a \
                     vector of several objects"
                ),
            )),
        }
    }
}

/// Refuses what cannot run in another process.
fn refuse(function: &ItemFn) -> syn::Result<()> {
    let signature = &function.sig;
    if let Some(word) = &signature.asyncness {
        let advice = "a task cannot be an `async fn`: it has a process of its own and may block; \
                      take out `async`, and call async code with a runtime's `block_on`";
        return Err(Error::new(word.span(), advice));
    }
    if let Some(word) = &signature.unsafety {
        return Err(Error::new(
            word.span(),
            "a task cannot be an `unsafe fn`: wrap it in a safe one",
        ));
    }
    if signature.variadic.is_some() {
        return Err(Error::new(
            signature.span(),
            "a task cannot take a variable number of arguments",
        ));
    }
    if !signature.generics.params.is_empty() {
        let advice = "a task cannot be generic: its code is found by name in another process; write \
                      one task for each type, which calls the generic function";
        return Err(Error::new(signature.generics.span(), advice));
    }
    for input in &signature.inputs {
        match input {
            FnArg::Receiver(receiver) => {
                let advice = "a task cannot be a method: write a function that takes the value as \
                              an argument and calls the method";
                return Err(Error::new(receiver.span(), advice));
            }
            FnArg::Typed(typed) => refuse_type(&typed.ty)?,
        }
    }
    match &signature.output {
        syn::ReturnType::Default => Ok(()),
        syn::ReturnType::Type(_, ty) => refuse_result(ty),
    }
}

fn refuse_type(ty: &Type) -> syn::Result<()> {
    let advice = match ty {
        Type::Reference(reference) => match &*reference.elem {
            Type::Path(path) if path.path.is_ident("str") => {
                "a task's argument comes from another process: take a `String` instead of a `&str`"
            }
            Type::Slice(_) => {
                "a task's argument comes from another process: take a `Vec<T>` instead of a `&[T]`, \
                 or a `manyhands::Slice<T>` to read numbers where they lie"
            }
            _ => {
                "a task's argument comes from another process: take the value instead of a reference"
            }
        },
        Type::ImplTrait(_) => {
            "a task cannot be generic: name the argument's type instead of `impl`"
        }
        _ => return Ok(()),
    };
    Err(Error::new(ty.span(), advice))
}

fn refuse_result(ty: &Type) -> syn::Result<()> {
    match ty {
        Type::Reference(_) => {
            let advice = "a task's result goes to another process: return the value instead of a \
                          reference";
            Err(Error::new(ty.span(), advice))
        }
        Type::ImplTrait(_) => {
            let advice = "a task's result is stored: name its type instead of `impl`, and collect \
                          an iterator into a `Vec`";
            Err(Error::new(ty.span(), advice))
        }
        Type::Never(_) => Err(Error::new(ty.span(), "a task that never returns has no result")),
        _ => Ok(()),
    }
}

/// The name of a parameter, or one made for a pattern.
pub(crate) fn parameter_name(pattern: &Pat, i: usize) -> syn::Ident {
    match pattern {
        Pat::Ident(named) if named.subpat.is_none() => named.ident.clone(),
        _ => quote::format_ident!("arg{i}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::quote;
    use syn::parse_quote;

    fn refused(function: ItemFn) -> String {
        refuse(&function).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_run_elsewhere_is_refused_with_advice() {
        let cases: [(ItemFn, &str); 9] = [
            (
                parse_quote!(
                    async fn f() {}
                ),
                "take out `async`",
            ),
            (
                parse_quote!(
                    unsafe fn f() {}
                ),
                "wrap it in a safe one",
            ),
            (
                parse_quote!(
                    fn f<T>(x: T) {}
                ),
                "one task for each type",
            ),
            (
                parse_quote!(
                    fn f(&self) {}
                ),
                "cannot be a method",
            ),
            (
                parse_quote!(
                    fn f(x: &str) {}
                ),
                "take a `String`",
            ),
            (
                parse_quote!(
                    fn f(x: &[f64]) {}
                ),
                "`manyhands::Slice<T>`",
            ),
            (
                parse_quote!(
                    fn f(x: impl Fn()) {}
                ),
                "name the argument's type",
            ),
            (
                parse_quote!(
                    fn f() -> &'static str {
                        ""
                    }
                ),
                "return the value",
            ),
            (
                parse_quote!(
                    fn f() -> impl Iterator<Item = u8> {
                        [].into_iter()
                    }
                ),
                "into a `Vec`",
            ),
        ];
        for (function, advice) in cases {
            let message = refused(function);
            assert!(message.contains(advice), "{message}");
        }
    }

    #[test]
    fn unknown_forms_are_refused_with_those_that_there_are() {
        let error = syn::parse2::<Shape>(quote!(many)).err().map(|error| error.to_string());
        assert!(error.is_some_and(|text| text.contains("`#[task(outputs)]`")));
    }

    #[test]
    fn what_is_added_is_rust() {
        let function: ItemFn = parse_quote!(
            pub(crate) fn f((a, b): (u8, u8), mut c: Vec<String>) -> std::io::Result<(u8, String)> {
                Ok((a, c.pop().unwrap_or_default()))
            }
        );
        refuse(&function).unwrap();
        for shape in [Shape::One, Shape::Outputs, Shape::Parts] {
            let added = expand::task(shape, &function).unwrap();
            let file: syn::File = syn::parse2(added).unwrap();
            assert_eq!(file.items.len(), 2, "a type and its calls");
        }
    }
}
