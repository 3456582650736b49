//! The expansion of each form of handler: one snapshot per form.

use proc_macro2::TokenStream;
use quote::{ToTokens as _, quote};
use syn::Meta;

use crate::item::{Name, Written};

/// Expands `item` as the compiler does: through the first nats-rpc attribute, which is not part of its own input.
fn expand(item: TokenStream) -> String {
    let mut item: syn::ItemFn = syn::parse2(item).unwrap();
    let (place, name) = item.attrs.iter().enumerate().find_map(|(at, one)| Some((at, name(one)?))).unwrap();
    let args = match item.attrs.remove(place).meta {
        Meta::List(list) => list.tokens,
        _ => TokenStream::new(),
    };
    pretty(crate::expand::handler(Written::first(name, args), item.into_token_stream()))
}

fn name(attribute: &syn::Attribute) -> Option<Name> {
    let last = attribute.path().segments.last()?.ident.to_string();
    match last.as_str() {
        "message_pattern" => Some(Name::MessagePattern),
        "event_pattern" => Some(Name::EventPattern),
        "use_guards" => Some(Name::UseGuards),
        "public" => Some(Name::Public),
        _ => None,
    }
}

fn derive(input: TokenStream) -> String {
    pretty(crate::into_rpc_error::derive(input))
}

fn pretty(tokens: TokenStream) -> String {
    prettyplease::unparse(&syn::parse2(tokens).unwrap())
}

/// Returns the messages of all `compile_error!`s in an expansion.
fn errors(expansion: &str) -> Vec<String> {
    let literal = |text: &str| syn::parse_str::<syn::LitStr>(text).unwrap().value();
    let calls = expansion.split("compile_error! {").skip(1);
    calls.map(|call| literal(call.split_once('}').map_or(call, |_| &call[..call.rfind('}').unwrap()]).trim())).collect()
}

macro_rules! snapshots {
    ($by:ident: $($name:ident { $($item:tt)* })*) => {
        $(#[test]
        fn $name() {
            insta::assert_snapshot!($by(quote!($($item)*)));
        })*
    };
}

snapshots! { expand:
    plain {
        #[message_pattern("ping")]
        async fn ping() -> &'static str { "pong" }
    }
    no_arguments_and_no_answer {
        #[message_pattern("nothing")]
        async fn nothing() {}
    }
    one_argument {
        #[message_pattern("math.sum")]
        async fn sum(Payload(Sum { a, b }): Payload<Sum>) -> Result<i64, RpcError> { Ok(a + b) }
    }
    guard_by_type {
        #[message_pattern("whoami")]
        #[use_guards(JwtGuard)]
        async fn whoami(me: Auth<UserClaims>) -> String { me.sub.clone() }
    }
    guard_by_value {
        #[message_pattern("profile")]
        #[use_guards(RequireScope::new("profile:read"))]
        async fn profile() {}
    }
    guards_of_every_form {
        #[message_pattern("mixed")]
        #[use_guards(m::JwtGuard<Claims>, RequireScope::<X>::new("a"), OpenFrom { unix_seconds: 1 }, (OFFICE_HOURS), guard!(x))]
        async fn mixed() {}
    }
    many_arguments {
        #[message_pattern("get_user_profile")]
        #[use_guards(JwtGuard, RequireScope::new("profile:read"))]
        async fn get_user_profile(
            Auth(me): Auth<UserClaims>,
            State(users): State<Users>,
            Payload(query): Payload<GetProfile>,
            mut context: Context,
            headers: Option<Headers>,
        ) -> Result<Profile, RpcError> {
            users.find(&query.user_id).await
        }
    }
    several_patterns {
        #[message_pattern("users.get")]
        #[message_pattern({"cmd": "get"}, queue = none)]
        #[event_pattern("users.touched")]
        pub(crate) async fn get(Payload(id): Payload<u64>) {}
    }
    event {
        #[event_pattern("user.created")]
        async fn welcome(Payload(event): Payload<UserCreated>) -> Result<(), RpcError> { Ok(()) }
    }
    stream_as_answer {
        #[message_pattern("count")]
        async fn count(Payload(last): Payload<u32>) -> Streaming<impl Stream<Item = Result<u32, RpcError>> + use<>> {
            Streaming::new(stream::iter((0..last).map(Ok)))
        }
    }
    number_pattern {
        #[message_pattern(42)]
        async fn answer() {}
    }
    object_pattern {
        #[message_pattern({"cmd": "sum", "n": 1, "nested": {"k": "v"}, "B": null})]
        async fn object() {}
    }
    object_pattern_as_text {
        #[message_pattern(r#"{"cmd":"sum"}"#)]
        async fn object() {}
    }
    parameters {
        #[message_pattern("users.{user}.posts.{post}")]
        async fn get_post(Param((user, post)): Param<(String, u32)>) -> String { user }
    }
    open_to_everybody {
        #[message_pattern("health")]
        #[public]
        pub async fn health() {}
    }
    every_option {
        #[message_pattern("slow", queue = "heavy", timeout_ms = 60_000, concurrency = 8, run_to_completion, crate = "renamed::nats")]
        async fn slow() {}
    }
    other_attributes_stay_on_the_function {
        /// Says hello.
        #[cfg(feature = "greeting")]
        #[tracing::instrument(skip_all)]
        #[message_pattern("hello")]
        #[expect(clippy::unused_async)]
        #[use_guards(JwtGuard)]
        #[cfg(unix)]
        #[deprecated]
        async fn hello() {}
    }
    generic_types_of_arguments {
        #[message_pattern("batch")]
        async fn batch(
            Payload(items): Payload<HashMap<String, Vec<[u8; 4]>>>,
            State(f): State<Arc<dyn Fn(&str) -> bool + Send + Sync>>,
            State(g): State<fn(&str) -> usize>,
            Payload(text): Payload<&'static str>,
        ) {}
    }
    impl_trait_as_answer {
        #[message_pattern("list")]
        async fn list() -> Result<impl Serialize, RpcError> { Ok([1, 2]) }
    }
    raw_name {
        #[message_pattern("type")]
        async fn r#type() {}
    }
    on_a_mistake_the_function_stays {
        /// Says hello.
        #[message_pattern("a b")]
        #[use_guards(JwtGuard)]
        async fn hello() {}
    }
    without_a_pattern_the_function_stays {
        #[use_guards(JwtGuard)]
        #[inline]
        async fn hello() {}
    }
    on_a_method_nothing_is_added {
        #[message_pattern("a")]
        async fn hello(&self) {}
    }
}

snapshots! { derive:
    derive_every_form {
        #[derive(IntoRpcError)]
        enum UserError {
            #[rpc(not_found)]
            Unknown { id: u64 },
            #[rpc(conflict, message = "this name is taken")]
            Taken(String),
            #[rpc(internal)]
            Database(#[from] DbError),
            #[rpc(internal, message = "the store is closed")]
            Closed,
            #[rpc(transparent)]
            Auth(AuthError),
            #[rpc(transparent)]
            Other { source: OtherError },
        }
    }
    derive_struct {
        #[rpc(unavailable)]
        pub struct Closed;
    }
    derive_generic {
        #[rpc(crate = "renamed")]
        enum Failed<'a, T: Clone, E> where T: Debug {
            #[rpc(invalid_argument)]
            Bad(&'a T),
            #[rpc(transparent)]
            Inner(Box<E>),
        }
    }
    derive_without_variants {
        enum Never {}
    }
    derive_names_every_mistake {
        enum Wrong {
            A,
            #[rpc(notfound)]
            B,
            #[rpc(transparent)]
            C(X, Y),
            #[rpc(conflict)]
            Fine,
        }
    }
}

/// Returns every order of `lines`.
fn orders(lines: &[TokenStream]) -> Vec<Vec<TokenStream>> {
    let [rest @ .., last] = lines else { return vec![Vec::new()] };
    let mut all = Vec::new();
    for order in orders(rest) {
        for place in 0..=order.len() {
            let mut order = order.clone();
            order.insert(place, last.clone());
            all.push(order);
        }
    }
    all
}

/// Returns an expansion without the lines that name the removed attributes: all but the first.
fn without_names(expansion: &str) -> String {
    let name = |line: &&str| line.trim().starts_with("use ") && line.ends_with(" as _;") && !line.contains('{');
    let mut lines: Vec<_> = expansion.lines().filter(|line| !name(line)).collect();
    lines.retain(|line| line.trim() != "#[allow(unused_imports)]");
    lines.join("\n")
}

#[test]
fn the_order_of_attributes_makes_no_difference() {
    let attributes =
        [quote!(#[message_pattern("a")]), quote!(#[use_guards(JwtGuard, RequireScope::new("x"))]), quote!(#[inline])];
    let expand = |order: Vec<TokenStream>| without_names(&expand(quote!(#(#order)* async fn hello(me: Auth<C>) {})));
    let first = expand(attributes.to_vec());
    assert!(
        first.contains("pattern: \"a\"") && first.contains("guards: &[\"JwtGuard\", \"RequireScope::new(\\\"x\\\")\"]")
    );
    for order in orders(&attributes) {
        assert_eq!(expand(order), first);
    }
    let attributes = [quote!(#[nats_rpc::message_pattern("a")]), quote!(#[::nats_rpc::public]), quote!(#[inline])];
    let expand = |order: Vec<TokenStream>| without_names(&self::expand(quote!(#(#order)* async fn hello() {})));
    let first = expand(attributes.to_vec());
    assert!(first.contains("public: true"));
    for order in orders(&attributes) {
        assert_eq!(expand(order), first);
    }
}

#[test]
fn guards_run_in_written_order_wherever_the_pattern_stands() {
    let (a, b, c) = (quote!(#[use_guards(A)]), quote!(#[use_guards(B, B2)]), quote!(#[use_guards(C)]));
    let pattern = quote!(#[message_pattern("a")]);
    for place in 0..=3 {
        let mut order = vec![a.clone(), b.clone(), c.clone()];
        order.insert(place, pattern.clone());
        let expansion = expand(quote!(#(#order)* async fn hello() {}));
        assert!(expansion.contains(r#"guards: &["A", "B", "B2", "C"]"#), "{expansion}");
        let bound = expansion.lines().filter(|line| line.contains("type __G")).map(str::trim);
        assert!(bound.eq(["type __G = A;", "type __G = B;", "type __G = B2;", "type __G = C;"]), "{expansion}");
    }
}

#[test]
fn every_mistake_is_reported_at_once() {
    let expansion = expand(quote! {
        #[message_pattern("a b", queu = "x", timeout_ms = 0)]
        #[use_guards()]
        #[public]
        fn hello<T>(text: &str) {}
    });
    let sentences = errors(&expansion);
    let expected = [
        "white space",
        "did you mean `queue`",
        "`timeout_ms` is a whole number of milliseconds above 0",
        "names no guard",
        "no guard is needed",
        "`async fn`",
        "without generics",
        "remove the `&`",
    ];
    assert_eq!(sentences.len(), expected.len(), "{sentences:#?}");
    for (sentence, expected) in sentences.iter().zip(expected) {
        assert!(sentence.contains(expected), "{sentence}");
    }
}

#[test]
fn each_mistake_in_an_attribute_is_told_once() {
    let once = |attributes: &str, why: &str| {
        let attributes: TokenStream = attributes.parse().unwrap();
        let sentences = errors(&expand(quote!(#attributes async fn hello() {})));
        assert!(matches!(&sentences[..], [one] if one.contains(why)), "{attributes}: {sentences:#?}");
    };
    once(r#"#[message_pattern]"#, "needs a pattern");
    once(r#"#[message_pattern(queue = "x")]"#, "the pattern comes first");
    once(r#"#[message_pattern(SUBJECT)]"#, "the pattern comes first");
    once(r#"#[message_pattern(1.5)]"#, "the pattern comes first");
    once(r#"#[message_pattern(-1)]"#, "whole number from 0");
    once(r#"#[message_pattern("a" "b")]"#, "expected `,`");
    once(r#"#[message_pattern("a", "b")]"#, "second `#[message_pattern(\"b\")]`");
    once(r#"#[event_pattern("a", 7)]"#, "second `#[event_pattern(7)]`");
    once(r#"#[message_pattern("a", retries = 3)]"#, "the options are `queue`, `timeout_ms`");
    once(r#"#[message_pattern("a", timeout = 3)]"#, "did you mean `timeout_ms`?");
    once(r#"#[message_pattern("a", queue)]"#, "`queue = \"readers\"`");
    once(r#"#[message_pattern("a", queue = readers)]"#, "a name in quotes");
    once(r#"#[message_pattern("a", queue = "")]"#, "without white space");
    once(r#"#[message_pattern("a", queue = "x", queue = "y")]"#, "given twice");
    once(r#"#[message_pattern("a", timeout_ms = 5ms)]"#, "above 0");
    once(r#"#[message_pattern("a", timeout_ms = -5)]"#, "above 0");
    once(r#"#[message_pattern("a", timeout_ms = "5")]"#, "above 0");
    once(r#"#[message_pattern("a", concurrency)]"#, "`concurrency = 8`");
    once(r#"#[message_pattern("a", concurrency = 0)]"#, "above 0");
    once(r#"#[message_pattern("a", run_to_completion = true)]"#, "stands alone");
    once(r#"#[message_pattern("a", crate = nats)]"#, "a path in quotes");
    once(r#"#[message_pattern("a", crate = "1")]"#, "a path in quotes");
    once(r#"#[message_pattern("a", %)]"#, "the options are");
    once(r#"#[message_pattern("a")] #[message_pattern = "b"]"#, "in parentheses");
    once(r#"#[message_pattern("a")] #[event_pattern("a")]"#, "already listens");
    once(r#"#[message_pattern("a.{x}")] #[message_pattern("a.{y}")]"#, "already listens to `a.*`");
    once(r#"#[use_guards(G)]"#, "`use_guards` without a pattern");
    once(r#"#[use_guards(G)] #[public]"#, "`use_guards` without a pattern");
    once(r#"#[public]"#, "`public` without a pattern");
    once(r#"#[message_pattern("a")] #[use_guards]"#, "names no guard");
    once(r#"#[message_pattern("a")] #[use_guards(A B)]"#, "expected `,`");
    once(r#"#[message_pattern("a")] #[public(all)]"#, "stands alone");
    once(r#"#[message_pattern("a")] #[public] #[public]"#, "given twice");
    once(r#"#[event_pattern("a")] #[public]"#, "events need no guard");
    once(r#"#[public] #[use_guards(A)] #[message_pattern("a")]"#, "remove one");
}

#[test]
fn each_mistake_in_a_signature_is_told_once() {
    let once = |function: &str, why: &str| {
        let function = function.parse().unwrap();
        let tokens = crate::expand::handler(Written::first(Name::MessagePattern, quote!("a")), function);
        let sentences = errors(&tokens.to_string().replace(":: core :: compile_error !", "compile_error!"));
        assert!(matches!(&sentences[..], [one] if one.contains(why)), "{sentences:#?}");
    };
    once("fn f() {}", "write `async fn`");
    once("const fn f() {}", "remove `const`");
    once("async unsafe fn f() {}", "remove `unsafe`");
    once(r#"async extern "C" fn f() {}"#, "remove the `extern`");
    once("async fn main() {}", "`main`");
    once("async fn f(&self) {}", "not `self`");
    once("async fn f();", "with a body");
    once("async fn f<T>() {}", "without generics");
    once("async fn f<const N: usize>() {}", "without generics");
    once("async fn f<'a>(x: &'a str) {}", "remove the lifetime");
    once("async fn f(x: &str) {}", "remove the `&`");
    once("async fn f(x: Payload<&str>) {}", "remove the `&`");
    once("async fn f(x: Payload<Cow<'_, str>>) {}", "without a lifetime");
    once("async fn f(x: impl Extract) {}", "in place of `impl`");
    once("async fn f(#[cfg(x)] a: A) {}", "its own `#[cfg(…)]`");
    once("pub struct F;", "`async fn`");
    once("impl F {}", "`async fn`");
}
