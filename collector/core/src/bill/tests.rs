mod conserved;
mod contracted;
mod cumulative;
mod doc;
mod given_back;
mod published;
mod slow;
mod versions;
