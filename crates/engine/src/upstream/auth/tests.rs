//! Each rule of authorization against a scripted world: servers, authorization servers and people that do as told.

mod code;
mod machine;
mod renewal;
mod scopes;
mod world;
