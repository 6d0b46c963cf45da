mod cumulative;
mod doc;
