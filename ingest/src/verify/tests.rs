//! Each kind of damage to a real store is named, and stores that were only used are proven.

mod damage;
mod healthy;
mod site;
