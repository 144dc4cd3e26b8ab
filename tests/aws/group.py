"""Makes an Auto Scaling group, and prints its instances, one id a line.

    tests/aws/run.sh tests/aws/group.py --api 127.0.0.1:8080 --hook boot \\
        --tag deploy:url=s3://releases/my-app/production/current
"""

import argparse
import base64

import boto3


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--api", default="127.0.0.1:8080")
    parser.add_argument("--region", default="eu-central-1")
    parser.add_argument("--name", default="my-app-production")
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--hook", help="a launching hook")
    parser.add_argument("--hook-timeout", type=int, default=600)
    parser.add_argument("--tag", action="append", default=[], help="KEY=VALUE, of each instance")
    parser.add_argument("--without-tags-in-metadata", action="store_true")
    parser.add_argument("--warm-pool", choices=["Stopped", "Running", "Hibernated"])
    parser.add_argument("--target-port", type=int, help="makes a target group, whose targets are asked for /")
    parser.add_argument("--user-data", type=argparse.FileType("rb"))
    return parser.parse_args()


def main():
    asked = arguments()
    keys = {"aws_access_key_id": "tests", "aws_secret_access_key": "tests"}

    def client(service):
        return boto3.client(service, endpoint_url=f"http://{asked.api}", region_name=asked.region, **keys)

    tags = "disabled" if asked.without_tags_in_metadata else "enabled"
    data = {
        "ImageId": "ami-12345678",
        "InstanceType": "t3.small",
        "MetadataOptions": {"HttpTokens": "required", "InstanceMetadataTags": tags},
    }
    if asked.user_data:
        data["UserData"] = base64.b64encode(asked.user_data.read()).decode()
    targets = []
    if asked.target_port:
        vpc = client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
        group = client("elbv2").create_target_group(
            Name=asked.name, Protocol="HTTP", Port=asked.target_port, VpcId=vpc, HealthCheckPath="/"
        )
        targets = [group["TargetGroups"][0]["TargetGroupArn"]]
    client("ec2").create_launch_template(LaunchTemplateName=asked.name, LaunchTemplateData=data)
    scaling = client("autoscaling")
    hook = {
        "LifecycleHookName": asked.hook,
        "LifecycleTransition": "autoscaling:EC2_INSTANCE_LAUNCHING",
        "HeartbeatTimeout": asked.hook_timeout,
        "DefaultResult": "ABANDON",
    }
    keys_and_values = [tag.split("=", 1) for tag in asked.tag]
    scaling.create_auto_scaling_group(
        AutoScalingGroupName=asked.name,
        LaunchTemplate={"LaunchTemplateName": asked.name, "Version": "$Latest"},
        MinSize=0,
        MaxSize=10,
        DesiredCapacity=0,
        AvailabilityZones=[f"{asked.region}a"],
        Tags=[{"Key": key, "Value": value, "PropagateAtLaunch": True} for key, value in keys_and_values],
        TargetGroupARNs=targets,
        LifecycleHookSpecificationList=[hook] if asked.hook else [],
    )
    if asked.warm_pool:
        scaling.put_warm_pool(AutoScalingGroupName=asked.name, PoolState=asked.warm_pool)
    scaling.set_desired_capacity(AutoScalingGroupName=asked.name, DesiredCapacity=asked.count)
    groups = scaling.describe_auto_scaling_groups(AutoScalingGroupNames=[asked.name])
    for instance in groups["AutoScalingGroups"][0]["Instances"]:
        print(instance["InstanceId"])


if __name__ == "__main__":
    main()
