"""Client of Apple's Batch Processing Gateway (BPG): one place to submit Spark jobs to many EMR-on-EKS clusters."""
