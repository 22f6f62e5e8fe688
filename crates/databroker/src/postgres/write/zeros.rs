//! What PostgreSQL cannot keep: texts with a zero in them.

use pomerium_api::databroker::{Error, Record};

use crate::store::{Copy, Write};

/// Errors when a name in it holds a zero.
pub(super) fn refuse(write: &Write) -> Result<(), Error> {
    let has_zero = match write {
        Write::Put(records) | Write::Patch { records, .. } => records.iter().any(names_hold_zero),
        Write::Replace(record) => names_hold_zero(record),
        Write::SetOptions { record_type, .. } => record_type.contains('\0'),
        Write::Lease(request) => request.name.contains('\0'),
        Write::ReleaseLease { name, id } => name.contains('\0') || id.contains('\0'),
        Write::Copy(Copy::Part { records, .. } | Copy::Changes(records)) => {
            records.iter().any(names_hold_zero)
        }
        Write::Copy(Copy::Options(all)) => all.iter().any(|(record_type, _)| record_type.contains('\0')),
        Write::Copy(Copy::Begin | Copy::End { .. }) => false,
        Write::Clear | Write::Trim(_) | Write::Expire | Write::Promote => false,
        Write::Report { services, .. } => services.iter().any(|service| service.endpoint.contains('\0')),
    };
    if has_zero {
        return Err(Error::Invalid(
            "PostgreSQL keeps no names with a zero byte in them".into(),
        ));
    }
    Ok(())
}

fn names_hold_zero(record: &Record) -> bool {
    record.r#type.contains('\0') || record.id.contains('\0')
}
