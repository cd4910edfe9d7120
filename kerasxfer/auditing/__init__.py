"""The audit: what is wrong with a data set, as the features of its images and their files tell.

images ─► inspection (files decoded once) ─► features through the cache ─► copies, labels, outliers, files
                                                                          └► findings ─► page, JSON, decisions
"""
