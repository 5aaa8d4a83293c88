"""The EC2 lab: moto's EC2 API with real hosts (systemd-nspawn) behind it. `../ec2-lab` is its front."""
