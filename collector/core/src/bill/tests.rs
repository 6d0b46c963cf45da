mod cumulative;
mod doc;
mod slow;
