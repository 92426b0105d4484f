//! The code that `#[task]` adds beside the function.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{Attribute, FnArg, Ident, ItemFn, ReturnType, Type};

use crate::{Shape, parameter_name};

/// What is known of the function.
struct Task<'a> {
    function: &'a ItemFn,
    names: Vec<Ident>,
    types: Vec<&'a Type>,
    /// Type of its result; for one that can fail, of the result when it does not.
    result: TokenStream,
    fails: bool,
}

pub(crate) fn task(shape: Shape, function: &ItemFn) -> syn::Result<TokenStream> {
    let (mut names, mut types) = (Vec::new(), Vec::new());
    for (i, input) in function.sig.inputs.iter().enumerate() {
        if let FnArg::Typed(typed) = input {
            names.push(parameter_name(&typed.pat, i));
            types.push(&*typed.ty);
        }
    }
    let (result, fails) = match &function.sig.output {
        ReturnType::Default => (quote!(()), false),
        ReturnType::Type(_, ty) if is_result(ty) => {
            (quote!(<#ty as ::manyhands::runtime::Fallible>::Ok), true)
        }
        ReturnType::Type(_, ty) => (quote!(#ty), false),
    };
    let task = Task { function, names, types, result, fails };
    Ok(task.expand(shape))
}

/// Whether a type is a `Result`, by its last word.
fn is_result(ty: &Type) -> bool {
    match ty {
        Type::Path(path) => path.path.segments.last().is_some_and(|last| last.ident == "Result"),
        Type::Paren(inner) => is_result(&inner.elem),
        Type::Group(inner) => is_result(&inner.elem),
        _ => false,
    }
}

impl Task<'_> {
    fn expand(&self, shape: Shape) -> TokenStream {
        let (name, vis) = (&self.function.sig.ident, &self.function.vis);
        let cfgs: Vec<&Attribute> = self
            .function
            .attrs
            .iter()
            .filter(|attribute| attribute.path().is_ident("cfg"))
            .collect();
        let entry = self.entry(&shape);
        let calls = self.calls(&shape);
        let about = format!("[`{name}`](fn@{name}) as a task.");
        quote! {
            #(#cfgs)*
            #[doc = #about]
            #[allow(non_camel_case_types, dead_code)]
            #vis struct #name {}

            #(#cfgs)*
            #[allow(dead_code, clippy::too_many_arguments)]
            impl #name {
                #calls
                #entry
            }
        }
    }

    /// `lazy` and `submit`.
    fn calls(&self, shape: &Shape) -> TokenStream {
        let (vis, names, types, result) =
            (&self.function.vis, &self.names, &self.types, &self.result);
        // A name that no parameter can have.
        let client = Ident::new("client", Span::mixed_site());
        let n = Ident::new("n", Span::mixed_site());
        let args = Ident::new("args", Span::mixed_site());
        let call = quote! {
            ::manyhands::runtime::Call::new(Self::__entry(), |#args| {
                #(::manyhands::IntoArg::<#types>::append(#names, #args);)*
                let _ = #args;
            })
        };
        let params = quote!(#(#names: impl ::manyhands::IntoArg<#types>),*);
        let (lazy_type, lazy, count, handles, submit) = match shape {
            Shape::One => (
                quote!(::manyhands::Lazy<#result>),
                quote!(#call.lazy()),
                quote!(),
                quote!(::manyhands::Handle<#result>),
                quote!(#call.submit(#client)),
            ),
            Shape::Outputs => {
                let tuple = quote!(<#result as ::manyhands::runtime::Tuple>);
                (
                    quote!(#tuple::Lazies),
                    quote!(#tuple::lazies(#call)),
                    quote!(),
                    quote!(#tuple::Handles),
                    quote!(#tuple::submit(#call, #client)),
                )
            }
            Shape::Parts => {
                let part = quote!(<#result as ::manyhands::runtime::Sequence>::Item);
                (
                    quote!(::manyhands::Lazy<::manyhands::Parts<#part>>),
                    quote!(#call.lazy()),
                    quote!(#n: usize,),
                    quote!(::std::vec::Vec<::manyhands::Handle<#part>>),
                    quote!(#call.submit_parts(#client, #n)),
                )
            }
        };
        quote! {
            /// A node of a graph: this call, to be run when its result is asked for.
            #vis fn lazy(#params) -> #lazy_type {
                #lazy
            }

            /// Submits this call now. Does not wait.
            #vis fn submit(
                #client: &::manyhands::Client,
                #count
                #params
            ) -> ::core::result::Result<#handles, ::manyhands::Error> {
                #submit
            }
        }
    }

    /// The function's entry in the program's registry.
    fn entry(&self, shape: &Shape) -> TokenStream {
        let (name, names, types) = (&self.function.sig.ident, &self.names, &self.types);
        let indices = 0..names.len();
        let texts = names.iter().map(Ident::to_string);
        let signature = &self.function.sig;
        let signature = quote!(#signature).to_string();
        let value = Ident::new("value", Span::mixed_site());
        let to = Ident::new("invocation", Span::mixed_site());
        let unwrapped = match self.fails {
            false => quote!(#name(#(#names),*)),
            true => quote! {
                match ::manyhands::runtime::Fallible::into_result(#name(#(#names),*)) {
                    ::core::result::Result::Ok(#value) => #value,
                    ::core::result::Result::Err(error) => {
                        use ::manyhands::runtime::{ShownFailure as _, SourcedFailure as _};
                        let failure = ::manyhands::runtime::Failure(error);
                        return ::core::result::Result::Err((&failure).kind());
                    }
                }
            },
        };
        let give = match shape {
            Shape::One => quote!(::manyhands::runtime::give(#to, &#value)),
            Shape::Outputs => quote!(::manyhands::runtime::Tuple::give(#value, #to)),
            Shape::Parts => quote!(::manyhands::runtime::give_parts(#to, #value)),
        };
        quote! {
            #[doc(hidden)]
            fn __entry() -> &'static ::manyhands::runtime::TaskEntry {
                #[::manyhands::runtime::linkme::distributed_slice(::manyhands::runtime::TASKS)]
                #[linkme(crate = ::manyhands::runtime::linkme)]
                static ENTRY: ::manyhands::runtime::TaskEntry = ::manyhands::runtime::TaskEntry {
                    name: ::core::concat!(::core::module_path!(), "::", ::core::stringify!(#name)),
                    id: ::manyhands::runtime::function_id(::core::concat!(
                        ::core::module_path!(), ":", ::core::line!(), ":", ::core::column!(), ":",
                        #signature
                    )),
                    invoke,
                };

                fn invoke(
                    #to: &mut ::manyhands::runtime::Invocation<'_>,
                ) -> ::core::result::Result<(), ::manyhands::runtime::FailureKind> {
                    #[allow(unused_imports)]
                    use ::manyhands::runtime::{ListParam as _, PlainParam as _};
                    ::manyhands::runtime::run(#to, |#to| {
                        #(
                            #[allow(clippy::needless_borrow)]
                            let #names = (&::manyhands::runtime::Param::<#types>::NEW)
                                .read(#to, #indices, #texts)?;
                        )*
                        #[allow(clippy::let_unit_value)]
                        let #value = #unwrapped;
                        #give
                    })
                }

                &ENTRY
            }
        }
    }
}
