"""What was counted of the fleet: small rows per site, written anew with each count."""

from django.db import models

from fleetward.console.organisation.models import Site


class Counted(models.Model):
    """When the fleet was last counted; the row's key is 1.

    Attributes:
        at: when the count began.
        seconds: how long it took.
        transition: the greatest id of a transition that its curves know.
    """

    at = models.DateTimeField()
    seconds = models.FloatField()
    transition = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return str(self.at)


class Health(models.Model):
    """The hosts of a site.

    Attributes:
        hosts: that are active.
        at_risk: of which a product is not protected (`deciding.PROTECTED`).
        bare: that report no product at all; among those at risk.
        silent: that were not heard of lately.
    """

    site = models.ForeignKey(Site, null=True, on_delete=models.CASCADE, related_name="+")
    hosts = models.BigIntegerField()
    at_risk = models.BigIntegerField()
    bare = models.BigIntegerField()
    silent = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.hosts} hosts at {self.site_id}"


class Tally(models.Model):
    """The hosts of a site that stand alike with a product.

    Attributes:
        channel: that they follow.
        release: that they run; empty for none.
        seq: of that release.
        freshness: a `deciding.Freshness`.
        hosts: how many.
    """

    site = models.ForeignKey(Site, null=True, on_delete=models.CASCADE, related_name="+")
    product = models.CharField(max_length=64)
    channel = models.CharField(max_length=64)
    release = models.CharField(max_length=64, blank=True)
    seq = models.BigIntegerField()
    freshness = models.CharField(max_length=12)
    hosts = models.BigIntegerField()

    class Meta:
        indexes = [models.Index(fields=["product", "site"], name="tally_by_product")]

    def __str__(self) -> str:
        return f"{self.hosts} {self.freshness} with {self.product}"


class Arrival(models.Model):
    """The hosts of a site that first confirmed a release so long after it was made.

    Attributes:
        seq: of the release.
        created: when the origin made it.
        minutes: the end of the bucket (`deciding.bucket`).
        hosts: how many.
    """

    site = models.ForeignKey(Site, null=True, on_delete=models.CASCADE, related_name="+")
    product = models.CharField(max_length=64)
    release = models.CharField(max_length=64)
    seq = models.BigIntegerField()
    created = models.DateTimeField()
    minutes = models.BigIntegerField()
    hosts = models.BigIntegerField()

    class Meta:
        indexes = [models.Index(fields=["product", "release"], name="arrival_by_release")]

    def __str__(self) -> str:
        return f"{self.hosts} with {self.product} {self.release}"
