_base_ = ['../_base_/robocup_ssl.py']
