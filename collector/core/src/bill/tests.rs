mod contracted;
mod cumulative;
mod doc;
mod published;
mod slow;
mod versions;
