mod contracted;
mod cumulative;
mod doc;
mod slow;
mod versions;
