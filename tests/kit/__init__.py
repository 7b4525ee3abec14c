"""What tests of several packages share: doubles of what a stage has around it, and how messages travel."""
