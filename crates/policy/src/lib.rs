//! The Pomerium policy language (PPL): parse, compile, evaluate, explain. Pure, no I/O.
//!
//! The way of a policy: a JSON value becomes an [`ppl::Policy`] (what people wrote, with the place of
//! every criterion), [`merge`] adds the rules that route settings imply, [`Program::compile`] turns it
//! into a small typed form, [`Program::evaluate`] judges one [`Input`] without allocating, and
//! [`Program::explain`] tells the same judgement with every criterion's input and verdict.
//!
//! Custom policies in Rego ([`rego`]) stand beside the rules of a program; their results are joined.
//!
//! What a verdict means for the client (log in, 403, …) is not decided here: see `pomerium-authorize`.
//! Start at [`Program`].

mod certificate;
mod compile;
mod criteria;
mod demand;
mod depends;
pub mod duration;
pub mod explain;
mod input;
mod merge;
mod part;
pub mod ppl;
mod program;
mod reason;
pub mod rego;
pub mod ssh;
mod suggest;
mod value;

pub use certificate::{CertificateFacts, CertificateTrust, ClientCertificate};
pub use compile::CompileError;
pub use criteria::CRITERIA;
pub use demand::{Demand, Unmet};
pub use depends::Depends;
pub use input::{
    Authentication, Claims, Device, Group, GroupSource, Groups, HeaderLookup, HttpInput, Input, McpInput,
    NoHeaders, NoRecords, RecordLookup, SshInput, Subject,
};
pub use merge::{RouteRules, merge};
pub use part::{Part, Said};
pub use program::{Denial, Evaluation, Program, Verdict};
pub use reason::{Reason, ReasonSet};
pub use rego::{RegoError, Script, ScriptData};
