//! Configuration: what people write (`spec`) becomes what the program runs on (`settings`).

pub mod settings;
